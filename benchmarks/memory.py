"""Memory of whole programs: all processes of training and classification, and data preparation with more and more
data.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import data
import numpy as np

from face4d.constants import COMA_LABELS
from face4d.landmarks import save_embedding

REPOSITORY = Path(__file__).resolve().parents[1]
MB = 1e6
SCALES = (1, 2, 4)


def peak_of_tree(command: list[str], folder: Path) -> float:
    """Largest sum, in MB, of the proportional set sizes (Linux: pages shared by processes count once) of a program and
    all its children.
    """
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as program:
        peak = 0.0
        while program.poll() is None:
            peak = max(peak, sum(map(_proportional_set, _tree(program.pid))))
            time.sleep(0.02)
    if program.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with exit code {program.returncode}")
    return peak / MB


def _tree(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # ended in between
        return []
    return [pid, *(below for child in children for below in _tree(child))]


def _proportional_set(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _landmark_folder(folder: Path, subjects: int) -> Path:
    """CoMA's number of sequences: 12 labels of each subject, 41 frames."""
    folder.mkdir()
    motion = data.landmarks_in_motion(len(COMA_LABELS) * subjects, 41)
    face = np.random.default_rng(data.SEED).normal(0, 0.03, (68, 3)).astype(np.float32)
    for number, sequence in enumerate(motion):
        np.save(
            folder / f"{COMA_LABELS[number % len(COMA_LABELS)]}_S{number // len(COMA_LABELS):02d}.npy", face + sequence
        )
    return folder


def measured(args: Namespace) -> tuple[dict[str, object], str]:
    """What ``run.py --memory`` prints."""
    from run import table

    results: dict[str, float] = {}
    rows = [("program", "all processes, peak")]

    def measure(name: str, command: list[object], folder: Path) -> None:
        results[name] = peak_of_tree([sys.executable, *map(str, command)], folder)
        rows.append((name, f"{results[name]:.0f} MB"))
        print(*rows[-1], file=sys.stderr)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = [
            "--landmarks",
            _landmark_folder(folder / "landmarks", 12),
            "--test-subjects",
            "S09",
            "S10",
            "S11",
            "--dataset",
            "coma",
            "--quiet",
        ]
        brief = [*sets, "--epochs", 2]
        measure("import torch", ["-c", "import torch"], folder)
        measure("generator, default", [REPOSITORY / "main.py", *brief, "--run", "a"], folder)
        for hidden in (16,) if args.tiny else (256, 1024):
            command = [
                REPOSITORY / "main.py",
                *brief,
                "--preset",
                "thesis",
                "--loss",
                "l2",
                "--hidden-size",
                hidden,
                "--run",
                f"b{hidden}",
            ]
            measure(f"generator, thesis, H {hidden}", command, folder)
        measure("classifier, default", [REPOSITORY / "Classification" / "main.py", *brief, "--run", "c"], folder)
        for hidden, layers in ((16, 1),) if args.tiny else ((128, 2), (256, 3), (1024, 3)):
            command = [
                REPOSITORY / "Classification" / "main.py",
                *brief,
                "--preset",
                "thesis",
                "--hidden-size",
                hidden,
                "--layers",
                layers,
            ]
            measure(f"classifier, thesis, H {hidden}, {layers} layers", [*command, "--run", f"d{hidden}"], folder)

        _, faces = data.head_in_motion(1)
        save_embedding(folder / "points.npz", data.embedding(faces))
        frames = 4 if args.tiny else 116
        for scale in SCALES:
            raw = folder / f"raw{scale}"
            for subject in range(4 * scale):
                data.write_meshes(raw / f"S{subject:02d}" / "mouth_open", frames, ".ply")
            data.write_meshes(folder / f"obj{scale}" / "S00" / "Happy", (2 if args.tiny else 64) * scale, ".obj")
            run = ["--workers", 1, "--quiet"]
            extract = ["--test-subjects", "S00", "--landmark-embedding", folder / "points.npz", *run]
            script, where = REPOSITORY / "get_landmark_coma.py", ["--input", raw, "--output"]
            obj, ply = folder / f"obj{scale}", folder / f"ply{scale}"
            measure(
                f"OBJ to PLY, {scale} x",
                [REPOSITORY / "convert_obj_to_ply.py", "--input", obj, "--output", ply, *run],
                folder,
            )
            measure(
                f"resampling, {scale} x",
                [REPOSITORY / "sampling_coma.py", *where, folder / f"sampled{scale}", *run],
                folder,
            )
            measure(f"landmarks, {scale} x", [script, *where, folder / f"points{scale}", *extract], folder)
            measure(
                f"straight to landmarks, {scale} x",
                [script, *where, folder / f"straight{scale}", "--frames", 41, *extract],
                folder,
            )
    return dict(results), table(rows)
