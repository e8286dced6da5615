"""Measure every step against baselines on the same data, in turns, in the same run.

    python benchmarks/run.py                                  # all of them, some minutes
    python benchmarks/run.py --only mesh_gif landmarks        # some
    python benchmarks/run.py --repeat 9 --json results.json
    python benchmarks/run.py --clock cpu --threads 1          # on a machine with other work: processor time
    python benchmarks/run.py --scaling                        # face4d with 1, 2 and 4 times the data: proportional time
    python benchmarks/run.py --memory                         # memory of whole programs

Times are medians of seconds per unit; a ratio is the median over neighbouring runs of both ways, so that other work
on the machine affects both alike. The baseline is the original's way or the usual package's; where that is wasteful,
a second baseline is the loop that a careful user of the same packages writes. Peak memory is the resident set of a
process that does one thing once (getrusage, imports included). Each benchmark has its own processes. Modules:
measure.py (what a benchmark is), data.py (data of real size made in code), meshes.py, pictures.py, networks.py,
dense.py (the benchmarks), memory.py.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from face4d.commands import cli

# name: module and function that describes it
BENCHMARKS = {
    "obj_to_ply": ("meshes", "obj_to_ply"),
    "resample": ("meshes", "resample"),
    "straight_to_landmarks": ("meshes", "straight_to_landmarks"),
    "landmarks": ("meshes", "landmarks"),
    "landmark_gif": ("pictures", "landmark_pictures"),
    "mesh_gif": ("pictures", "mesh_pictures"),
    "generation": ("networks", "generation"),
    "generation_default": ("networks", "generation_default"),
    "classifier_epoch": ("networks", "classifier_epoch"),
    "coma_epoch": ("networks", "coma_epoch"),
    "florence_epoch": ("networks", "florence_epoch"),
    "s2d_decode": ("dense", "s2d_decode"),
    "s2d_step": ("dense", "s2d_step"),
    "s2d_start": ("dense", "hierarchy_from_cache"),
}
SCALES = (1, 2, 4)


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=tuple(BENCHMARKS),
        metavar="NAME",
        default=list(BENCHMARKS),
        help=f"of {', '.join(BENCHMARKS)}",
    )
    parser.add_argument(
        "--repeat", type=cli.integer(1, 1_000_000), default=5, metavar="N", help="timed calls of each way"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    parser.add_argument(
        "--threads",
        type=cli.integer(1, cli.MOST_AT_ONCE),
        default=os.cpu_count() or 1,
        metavar="N",
        help="CPU threads (of torch and its products)",
    )
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of all threads, for a machine with other work",
    )
    cli.add_switch(parser, "scaling", False, "time ours with 1, 2 and 4 times the data in place of the comparison")
    cli.add_switch(parser, "memory", False, "measure whole programs' memory in place of the comparison")
    cli.add_switch(parser, "tiny", False, "very little data, to try the benchmark itself; the numbers mean nothing")
    parser.add_argument(
        "--worker",
        choices=("compare", "ours", "baseline", "time"),
        help="used by the program itself: one part, in this process",
    )
    parser.add_argument("--scale", type=cli.integer(1, 100), default=1, help="used by the program itself")
    return parser.parse_args(argv)


def work(name: str, args: Namespace) -> dict[str, Any]:
    """One part of one benchmark, in this process."""
    from measure import Size, compare, seconds

    module, function = BENCHMARKS[name]
    topic = importlib.import_module(module)
    if module in ("networks", "dense"):
        from face4d.runtime.device import keep_freed_memory

        keep_freed_memory()  # as the training scripts do; here it serves both ways
        topic.torch.set_num_threads(args.threads)
    case = getattr(topic, function)(Size(args.tiny, args.scale))
    if args.worker in ("ours", "baseline"):
        seconds(getattr(case, args.worker), case.settle)
        return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if args.worker == "time":
        seconds(case.ours, case.settle)
        return {"seconds": min(seconds(case.ours, case.settle) for _ in range(args.repeat)), "units": case.units}
    result = {
        "unit": case.unit,
        **compare(case, args.repeat, args.clock),
        "baseline_is": case.baseline_is,
        "sensible_is": case.sensible_is,
    }
    bound = case.bound() if case.bound and args.clock == "wall" else None  # bounds are measured by the clock
    result |= {"target": case.target, "bound": bound, "bound_is": case.bound_is}
    return result


def part(name: str, worker: str, args: Namespace, scale: int = 1) -> dict[str, Any]:
    """The same in a process of its own, with a temporary folder of its own."""
    command = [
        sys.executable,
        __file__,
        "--only",
        name,
        "--worker",
        worker,
        "--repeat",
        str(args.repeat),
        "--scale",
        str(scale),
    ]
    command += ["--threads", str(args.threads), "--clock", args.clock, "--tiny" if args.tiny else "--no-tiny"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder, "OMP_NUM_THREADS": str(args.threads)}
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        raise SystemExit(f"error: benchmark {name} ended with exit code {answer.returncode}")
    return json.loads(answer.stdout.splitlines()[-1])


def duration(value: float | None) -> str:
    if value is None:
        return "-"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def compared(args: Namespace) -> tuple[dict[str, Any], str]:
    """All benchmarks against their baselines."""
    results = {}
    rows = [
        (
            "benchmark",
            "per",
            "face4d",
            "baseline",
            "ratio",
            "sensible loop",
            "ratio",
            "target",
            "lower bound",
            "peak memory",
            "baseline is",
            "sensible loop is",
        )
    ]
    for name in args.only:
        result = part(name, "compare", args)
        result |= {f"{way}_peak_mb": part(name, way, args)["peak_mb"] for way in ("ours", "baseline")}
        results[name] = result
        sensible, times = result.get("sensible"), f"{result['sensible_ratio']:.3g}" if "sensible" in result else "-"
        rows.append((
            name, str(result["unit"]), duration(result["ours"]), duration(result["baseline"]), f"{result['ratio']:.3g}",
            duration(sensible), times, duration(result["target"]), duration(result["bound"]),
            f"{result['ours_peak_mb']:.0f} MB / {result['baseline_peak_mb']:.0f} MB", str(result["baseline_is"]),
            str(result["sensible_is"] or "-"),
        ))  # fmt: skip
        print(f"{name}: {rows[-1][2]} against {rows[-1][3]} and {rows[-1][5]}", file=sys.stderr)
    return results, table(rows)


def scaled(args: Namespace) -> tuple[dict[str, Any], str]:
    """Seconds of ours with 1, 2, 4 times the data, and their ratio to once the data."""
    results, rows = (
        {},
        [("benchmark", *(f"{scale} x" for scale in SCALES), *(f"{scale} x / 1 x" for scale in SCALES[1:]))],
    )
    for name in args.only:
        times = [part(name, "time", args, scale)["seconds"] for scale in SCALES]
        results[name] = dict(zip(map(str, SCALES), times))
        rows.append((name, *map(duration, times), *(f"{value / times[0]:.2f}" for value in times[1:])))
        print(" ".join(rows[-1]), file=sys.stderr)
    return results, table(rows)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    if args.worker:
        print(json.dumps(work(args.only[0], args)))
        return
    load = os.getloadavg()[0]
    if args.memory:
        from memory import measured

        results, text = measured(args)
    else:
        results, text = scaled(args) if args.scaling else compared(args)
    machine = (
        f"{platform.machine()}, {processor()}, {os.cpu_count()} cores, {args.threads} threads, {args.clock} time, "
    )
    machine += f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"{date.today()}, {machine}\n\n{text}")
    if args.json:
        from face4d.runtime.atomic import write_json

        kind = "memory" if args.memory else "scaling" if args.scaling else "comparison"
        record = {
            "kind": kind,
            "date": str(date.today()),
            "machine": machine,
            "repeat": args.repeat,
            "tiny": args.tiny,
            "results": results,
        }
        write_json(args.json, record)
        cli.report_written([args.json])


def processor() -> str:
    """Name of the CPU, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    cli.run(main)
