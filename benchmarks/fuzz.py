"""Try readers of files with many damaged files; anything but a sane value or one line of error is a finding.

    python benchmarks/fuzz.py --reader ply --executions 200000
    python benchmarks/fuzz.py --reader ply obj --executions 5000 --output findings      # each finding as a file
    python benchmarks/fuzz.py --reader ply --checkout ../before     # another checkout's face4d, to compare

Readers, strategies and the property are in tests/fuzzing, which says how a reader is added. Peak memory is what the
processes took on top of what they had before the first file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from face4d.commands import cli

REPOSITORY = Path(__file__).resolve().parents[1]


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--reader", nargs="+", required=True, metavar="NAME", help="readers, as named in tests/fuzzing")
    parser.add_argument(
        "--executions", type=cli.integer(1, 10**9), default=10000, metavar="N", help="files read by each"
    )
    parser.add_argument(
        "--seed",
        type=cli.integer(0, cli.LARGEST_SEED),
        metavar="N",
        help="first seed (default: the time, so that every run is another)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write each finding there, <reader>_<number>, and findings.json"
    )
    parser.add_argument(
        "--checkout", type=Path, default=REPOSITORY, metavar="DIR", help="checkout whose face4d is tried"
    )
    return parser.parse_args(argv)


def campaign(name: str, args: Namespace) -> dict[str, Any]:
    """One reader, in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzzing.campaign", name, str(args.executions), str(args.seed)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:  # python -m imports from the current folder first
        Path(folder, "face4d").symlink_to(args.checkout.resolve() / "face4d")
        answer = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        raise SystemExit(answer.returncode)
    return json.loads(answer.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)

    from run import table  # beside this file

    args.seed = time.time_ns() % 2**31 if args.seed is None else args.seed
    rows, results = [("reader", "executions", "per second", "distinct findings", "peak memory", "slowest")], {}
    for name in args.reader:
        result = results[name] = campaign(name, args)
        findings = result["findings"]
        rows.append((
            name, str(result["executions"]), f"{result['per_second']:.0f}", str(len(findings)),
            f"{result['peak_mb']:.0f} MB", f"{1000 * result['slowest_seconds']:.0f} ms",
        ))  # fmt: skip
        for number, (kind, content) in enumerate(sorted(findings.items())):
            print(f"{name} {number}: {kind}\n    {bytes.fromhex(content)[:300]!r}")
            if args.output:
                args.output.mkdir(parents=True, exist_ok=True)
                (args.output / f"{name}_{number}").write_bytes(bytes.fromhex(content))
    print(f"seed {args.seed}\n\n{table(rows)}")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "findings.json").write_text(json.dumps({"seed": args.seed, **results}, indent=2))
        cli.report_written([args.output / "findings.json"])
    return 1 if any(result["findings"] for result in results.values()) else 0


if __name__ == "__main__":
    cli.run(main)
