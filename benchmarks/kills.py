"""Kill every step at every rename and at random moments, run it again, and compare with an undisturbed run.

    python benchmarks/kills.py                                    # all steps, 50 random moments each
    python benchmarks/kills.py --steps sampling "sampling --overwrite" --random 10
    python benchmarks/kills.py --list

A step runs in a child process on a small demo. It ends itself with SIGKILL just before its n-th call of os.replace,
rename, unlink, rmdir or link, or is killed after a random share of its time. Checked after each kill: every visible
file is the old or the new one; the next step reads no mixture silently; the same command (with --resume where
training has it) ends well, with the result of an undisturbed run; no hidden files are left. Prints a table;
docs/reliability.md has the figures. Needs fork, so Linux or macOS.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLS = ("replace", "rename", "unlink", "remove", "rmdir", "link")
TIMES = {"seconds", "ms_per_frame", "since", "started", "written"}  # of records; they differ from run to run
TROUBLES = ("torn", "read as a mixture", "refused", "differs", "left over")


@dataclass(frozen=True)
class Step:
    """A command of the program as it is killed.

    Attributes:
        name: for the table.
        command: script and its arguments; ``{data}`` is the folder of the inputs.
        again: what a user types after the kill; None = the same.
        before: commands that make the old state.
        copied: inputs that lie in the working folder because the step writes beside them.
        reader: the next step, run after the kill; where it ends well, what it writes must be what the old or the new
            state gives.
        outputs: folders that are compared.
    """

    name: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]
    again: tuple[str, ...] | None = None
    before: tuple[tuple[str, ...], ...] = ()
    copied: tuple[str, ...] = ()
    reader: tuple[str, ...] | None = None


ALONE = ("--workers", "1", "--quiet")
SAMPLE = (
    "sampling_coma.py",
    "--input",
    "{data}/demo/Dataset_FLAME_Aligned_COMA",
    "--output",
    "sampling",
    "--frames",
    "12",
    *ALONE,
)
COMA = ("get_landmark_coma.py", "--flame", "{data}/demo/models/flame", "--output", "marks", *ALONE)
COMA_MARKS = (*COMA, "--input", "{data}/sampling", "--test-subjects", "Demo03")
DEMO = (
    "face4d demo",
    "--output",
    "demo",
    "--subjects",
    "2",
    "--labels",
    "mouth_open",
    "--florence-labels",
    "Happy",
    "--quiet",
)
TRAIN = (
    "--landmarks",
    "{data}/marks",
    "--labels",
    "all",
    "--hidden-size",
    "8",
    "--epochs",
    "8",
    "--checkpoint-seconds",
    "0",
    "--run",
    "x",
    "--quiet",
)
GENERATE = (
    "test.py",
    "--checkpoint",
    "{data}/models/x.pt",
    "--landmarks",
    "{data}/marks",
    "--output",
    "out",
    "--quiet",
)
OWN = (
    "test.py", "--checkpoint", "{data}/models/x.pt", "--actor", "{data}/demo/actors/Demo03.ply", "--label", "all",
    "--flame", "{data}/demo/models/flame", "--dense", "{data}/models/dense.pt", "--export", "glb,mp4,ply,gif,png",
    "--size", "64", "--output", "out", "--quiet",
)  # fmt: skip
SCORE = (
    "Classification/test.py",
    "--checkpoint",
    "{data}/models/c.pt",
    "--landmarks",
    "{data}/marks",
    "--generated",
    "generated",
    "--output",
    "results/g",
)
DENSE = (
    "Sparse2Dense/main.py", "--dataset", "demo", "--meshes", "{data}/sampling", "--flame", "{data}/demo/models/flame",
    "--models", "models", "--runs", "runs", "--results", "results", "--strength", "1e-6", "--checkpoint-seconds", "0",
    "--epochs", "3", "--frame-step", "6", "--quiet",
)  # fmt: skip
DECODE = (
    "Sparse2Dense/test.py", "--checkpoint", "{data}/models/dense.pt", "--landmarks", "{data}/marks/dataset_testing",
    "--actors", "{data}/demo/actors", "--output", "meshes", "--quiet",
)  # fmt: skip
FIGURES = (
    "figures.py", "--runs", "{data}/runs", "--results", "{data}/results", "--generated", "{data}/generated_sets",
    "--landmarks", "{data}/marks", "--only", "strips", "tables", "report", "--output", "figures", "--quiet",
)  # fmt: skip

STEPS = (
    Step("convert", ("convert_obj_to_ply.py", "--input", "obj", *ALONE), ("obj",), copied=("obj",)),
    Step("sampling", SAMPLE, ("sampling",), reader=(*COMA, "--input", "sampling", "--test-subjects", "Demo03")),
    Step(
        "sampling --overwrite", (*SAMPLE, "--overwrite"), ("sampling",),
        before=((*SAMPLE, "--method", "thesis", "--overwrite"),),
        reader=(*COMA, "--input", "sampling", "--test-subjects", "Demo03"),
    ),
    Step("get_landmark_coma", COMA_MARKS, ("marks",)),
    Step("get_landmark_coma --overwrite", (*COMA_MARKS, "--overwrite"), ("marks",),
    before=((*COMA_MARKS[:-1], "Demo02", "--contour-angle", "10"),)), Step(
        "get_animation_landmark_ply",
        ("get_animation_landmark_ply.py", "--input", "{data}/ply", "--flame", "{data}/demo/models/flame", "--output",
         "marks", "--test-subjects", "Demo01", *ALONE), ("marks",),
    ),
    Step("demo", DEMO, ("demo",)),
    Step("demo --overwrite", (*DEMO, "--seed", "5", "--overwrite"), ("demo",), before=((*DEMO, "--subjects", "3"),)),
    Step("main", ("main.py", *TRAIN), ("models", "runs"), again=("main.py", *TRAIN, "--resume")),
    Step("test, test set", GENERATE, ("out",)),
    Step("test, own face", OWN, ("out",)),
    Step("Classification/main", ("Classification/main.py", *TRAIN), ("models", "runs"),
    again=("Classification/main.py", *TRAIN, "--resume")),
    Step("Classification/test", SCORE, ("results", "generated"), copied=("generated",)),
    Step("Sparse2Dense/main", (*DENSE, "--run", "d"), ("models", "runs"), again=(*DENSE, "--run", "d", "--resume")),
    Step(
        "Sparse2Dense/main, s2d", (*DENSE, "--decoder", "s2d", "--run", "s"), ("models", "runs"),
        again=(*DENSE, "--decoder", "s2d", "--run", "s", "--resume"),
    ),
    Step("Sparse2Dense/test", DECODE, ("meshes",)),
    Step("figures", FIGURES, ("figures",)),
)  # fmt: skip


class Bench:
    """The program under test and its inputs.

    Args:
        program: its checkout; the package must be imported from there too (PYTHONPATH).
        place: folder for inputs and working folders.
    """

    def __init__(self, program: Path, place: Path) -> None:
        self.program, self.data, self.work = program, place / "data", place / "work"

    def run(
        self, command: Sequence[str], *, kill_at: int | None = None, kill_after: float | None = None
    ) -> tuple[int, str]:
        """Run a command in a child in the working folder.

        Args:
            kill_at: number of the call of CALLS before which it ends itself; 0 = count only.
            kill_after: seconds until it is killed.

        Returns:
            Exit code (-9 after a kill), and what it said; with ``kill_at=0`` the number of calls.
        """
        script, *arguments = (word.format(data=self.data) for word in command)
        said = self.work.with_name("said.txt")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(descriptor, 1)
                os.dup2(descriptor, 2)
                sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
                os.chdir(self.work)
                calls = _count_calls(kill_at) if kill_at is not None else None
                code = self._main(script, arguments)
                if kill_at == 0 and calls is not None:
                    os.write(1, f"\n{calls[0]}".encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), said.read_text(errors="replace")

    def _main(self, script: str, arguments: list[str]) -> int:
        try:
            if script.endswith(".py"):
                sys.argv = [script, *arguments]
                runpy.run_path(str(self.program / script), run_name="__main__")
            else:
                sys.argv = [*script.split(), *arguments]
                runpy.run_module("face4d", run_name="__main__", alter_sys=True)
            code: object = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        return code if isinstance(code, int) else 1

    def require(self, command: Sequence[str]) -> None:
        """Run a command that must end well."""
        code, said = self.run(command)
        if code:
            raise RuntimeError(f"{' '.join(command)}: exit code {code}\n{said}")

    def prepare(self) -> None:
        """Make the inputs of all steps with the program itself."""
        self.data.mkdir(parents=True)
        self.work = self.data
        demo = (
            "--output",
            "demo",
            "--subjects",
            "3",
            "--labels",
            "mouth_open",
            "high_smile",
            "--florence-labels",
            "Happy",
            "--quiet",
        )
        self.require(("face4d demo", *demo, "--florence-subjects", "Demo01", "Demo02"))
        shutil.copytree(self.data / "demo" / "Dataset_FLAME_Aligned", self.data / "obj")
        for path in self.data.glob("obj/Demo02/*/*"):
            if int(path.stem.split("_")[1]) > 9:
                path.unlink()
        shutil.rmtree(self.data / "obj" / "Demo01")
        self.require(("convert_obj_to_ply.py", "--input", "demo/Dataset_FLAME_Aligned", "--output", "ply", *ALONE))
        self.require(SAMPLE)
        self.require(COMA_MARKS)
        self.require(("main.py", *TRAIN))
        self.require(("Classification/main.py", *TRAIN[:-2], "c", "--quiet"))
        self.require((*DENSE, "--run", "dense"))
        self.require((*GENERATE[:-3], "--output", "generated", "--no-gif", "--quiet"))
        shutil.copytree(self.data / "generated", self.data / "generated_sets" / "g")
        self.require((*SCORE[:-3], "generated_sets/g", "--output", "results/g", "--no-figures", "--quiet"))
        self.work = self.data.parent / "work"

    def begin(self, step: Step) -> None:
        """An empty working folder with the step's old state."""
        old = self.data.parent / "old" / step.name.replace("/", "_")
        if not old.exists():
            old.mkdir(parents=True)
            self.work = old
            for name in step.copied:
                shutil.copytree(self.data / name, old / name, symlinks=True)
            for command in step.before:
                self.require(command)
            self.work = self.data.parent / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(old, self.work)


def _count_calls(kill_at: int) -> list[int]:
    """Count calls of CALLS in this process, and end it just before the one wanted."""
    count = [0]

    def wrapped(real: Callable) -> Callable:
        def call(*arguments: Any, **keywords: Any) -> Any:
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    return count


def snapshot(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """Digest of every file that can be seen; without the curves of TensorBoard, which have times in them."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            inside = path.relative_to(root)
            if (
                path.is_file()
                and not any(part.startswith(".") for part in inside.parts)
                and ".tfevents." not in path.name
            ):
                found[str(inside)] = digest(path)
    return found


def hidden(root: Path, folders: Sequence[str]) -> list[str]:
    """Hidden files and folders, and doubled points of TensorBoard's curves."""
    found = [str(path) for folder in folders for path in (root / folder).rglob(".*")] + [
        str(path) for path in root.glob(".*")
    ]
    return found + [str(path) for path in root.iterdir() if path.name.endswith(".making")] + doubled_points(root)


def doubled_points(root: Path) -> list[str]:
    """Points of TensorBoard's curves that are there twice."""
    folders = {path.parent for path in root.rglob("*.tfevents.*")}
    if not folders:
        return []
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    doubled = []
    for folder in folders:
        points: Counter = Counter()
        for path in folder.glob("*.tfevents.*"):
            for event in LegacyEventFileLoader(str(path)).Load():
                points.update((value.tag, event.step) for value in event.summary.value)
        doubled += [f"{folder}: {point} {count} times" for point, count in points.items() if count > 1]
    return doubled


def digest(path: Path) -> str:
    """Of a file's content, times left out."""
    if path.suffix == ".json":
        try:
            return json.dumps(_without_times(json.loads(path.read_text())), sort_keys=True)
        except ValueError:
            pass
    if path.suffix == ".pt":
        return hashlib.sha256(repr(_without_times(_loaded(path))).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _loaded(path: Path) -> dict:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file
        return {"unreadable": f"{path.stat().st_size} {error}"}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(part) for key, part in value.items() if key not in TIMES and key != "checksum"}
    if isinstance(value, (list, tuple)):
        return [_without_times(part) for part in value]
    if hasattr(value, "numpy"):
        return (
            hashlib.sha256(
                value.contiguous().flatten().view(dtype=__import__("torch").uint8).numpy().tobytes()
            ).hexdigest()
            if value.numel()
            else "empty"
        )
    return value


def judge(
    bench: Bench, step: Step, old: dict[str, str], new: dict[str, str], read: list[dict[str, str]]
) -> dict[str, str]:
    """What a kill has done, by trouble; empty where nothing is wrong. ``read``: what the next step makes of the old and
    of the new state.
    """
    troubles = {}
    for name, found in snapshot(bench.work, step.outputs).items():
        if found not in (old.get(name), new.get(name)) and not _grows(bench.work / name):
            troubles["torn"] = name
    if step.reader and read:
        code, _ = bench.run(step.reader)
        if code == 0 and not any(_is_part(snapshot(bench.work, ("marks",)), one) for one in read):
            troubles["read as a mixture"] = "exit code 0"
        shutil.rmtree(bench.work / "marks", ignore_errors=True)
    code, said = bench.run(step.again or step.command)
    if code:
        troubles["refused"] = (said.strip().splitlines() or [f"exit code {code}"])[-1]
        return troubles
    after = snapshot(bench.work, step.outputs)
    if after != new:
        differing = sorted(name for name in {*after, *new} if after.get(name) != new.get(name))
        troubles["differs"] = f"{differing[0]} and {len(differing) - 1} more"
    left = hidden(bench.work, step.outputs)
    if left:
        troubles["left over"] = f"{left[0]} and {len(left) - 1} more"
    return troubles


def _grows(path: Path) -> bool:
    """Whether a file is a whole one of a run that is not finished: the state to go on from, or its curves."""
    if path.name.endswith(".last.pt"):
        return "state" in _loaded(path)
    return path.name == "curves.csv"


def _is_part(found: dict[str, str], whole: dict[str, str]) -> bool:
    """Whether every file is one of the undisturbed result; each sequence is old or new for itself, so several results
    may fit.
    """
    return all(whole.get(name) == value for name, value in found.items())


def try_step(bench: Bench, step: Step, moments: int, most: int, seed: int, told: Callable[[str], None]) -> Counter:
    """Kill one step at every call and at random moments; returns numbers of kills and of troubles."""
    bench.begin(step)
    old = snapshot(bench.work, step.outputs)
    read = []
    if step.reader and step.before:
        bench.require(step.reader)
        read.append(snapshot(bench.work, ("marks",)))
        shutil.rmtree(bench.work / "marks")
    bench.require(step.command)  # the first time files come from the disk
    bench.begin(step)
    start = time.monotonic()
    code, said = bench.run(step.command, kill_at=0)
    seconds = time.monotonic() - start
    if code:
        raise RuntimeError(f"{step.name}: exit code {code}\n{said}")
    calls, new = int(said.strip().splitlines()[-1]), snapshot(bench.work, step.outputs)
    if step.reader:
        bench.require(step.reader)
        read.append(snapshot(bench.work, ("marks",)))
        if len(read) == 2:  # every landmark file may be of the old or of the new meshes
            read = [
                {name: read[k >> i & 1][name] for i, name in enumerate(sorted(read[1]))}
                for k in range(2 ** len(read[1]))
            ]
    numbers = range(1, calls + 1) if calls <= most else [1 + k * calls // most for k in range(most)]
    generator = random.Random(seed)
    kills: list[tuple[str, dict[str, Any]]] = [("call", {"kill_at": number}) for number in numbers]
    kills += [("moment", {"kill_after": seconds * generator.random()}) for _ in range(moments)]
    counts: Counter = Counter({"calls": calls})
    for kind, how in kills:
        bench.begin(step)
        code, _ = bench.run(step.command, **how)
        if code != -signal.SIGKILL:
            continue  # it had finished
        counts[f"kills, {kind}"] += 1
        troubles = judge(bench, step, old, new, read)
        counts["lost"] += bool(troubles)
        counts.update(troubles.keys())
        for trouble, what in troubles.items():
            told(f"  {step.name}, {how}: {trouble}: {what}")
    return counts


def warm_up(bench: Bench) -> None:
    """Load what all children would load, once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    modules = (
        "numpy", "scipy.sparse", "joblib", "matplotlib.figure", "PIL.Image", "pygltflib", "tqdm",
        "torch.utils.tensorboard", "face4d.runtime.session", "face4d.generation.sample",
        "face4d.classification.classifier", "face4d.dense.train", "face4d.view.figure_set", "face4d.view.export",
        "face4d.demo.write",
        "face4d.evaluation.results", "face4d.runtime.parallel", "face4d.mesh.conversion", "face4d.datasets.sampling",
    )  # fmt: skip
    for name in modules:
        importlib.import_module(name)
    import face4d

    if Path(face4d.__file__).resolve().parents[1] != bench.program.resolve():
        raise SystemExit(
            f"error: face4d comes from {face4d.__file__}, not from {bench.program} (PYTHONPATH={bench.program})"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the steps")
    parser.add_argument("--random", type=int, default=50, metavar="N", help="random moments per step")
    parser.add_argument(
        "--most", type=int, default=1000, metavar="N", help="renames and removals tried per step, evenly among all"
    )
    parser.add_argument("--seed", type=int, default=27)
    parser.add_argument(
        "--program", type=Path, default=Path(__file__).resolve().parents[1], metavar="DIR", help="checkout to try"
    )
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(step.name for step in STEPS))
        return
    chosen = [step for step in STEPS if not args.steps or step.name in args.steps]
    with tempfile.TemporaryDirectory(prefix="kills_") as place:
        bench = Bench(args.program, Path(place))
        warm_up(bench)
        bench.prepare()
        print(
            "| step | renames and removals | kills there | kills at random | lost | " + " | ".join(TROUBLES) + " |",
            flush=True,
        )
        print("|---|---|---|---|---|" + "---|" * len(TROUBLES), flush=True)
        for step in chosen:
            counts = try_step(
                bench, step, args.random, args.most, args.seed, lambda line: print(line, file=sys.stderr, flush=True)
            )
            row = [counts[key] for key in ("calls", "kills, call", "kills, moment", "lost", *TROUBLES)]
            print(f"| {step.name} | " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
