"""What tests share: where the real data lies, tiny landmark sets, scripts as subprocesses."""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from face4d.mesh.plausibility import FACE_SIZE, MEAN_FACE
from face4d.mesh.sequence import iterate_vertices, read_mesh

torch.set_num_threads(1)  # small work; two threads that wait for busy cores take many times longer
threadpool_limits(1, user_api="blas")

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("FACE4D_DATA") or REPOSITORY.parent / "shared")
WITHOUT_DATA = "needs the real data (FACE4D_DATA)"


def real_data(place: str) -> Path:
    """A file or folder of the real data, ``FACE4D_DATA`` or ``../shared``; the test is skipped where it is not
    there."""
    if not (REAL_DATA / place).exists():
        pytest.skip(WITHOUT_DATA)
    return REAL_DATA / place


@pytest.fixture
def shared_data() -> Path:
    """Folder of real landmarks and faces; the test is skipped where it is not."""
    return real_data("data")


def skipped_in_words(reasons: Sequence[str], place: Path) -> list[str]:
    """At most two lines from the reasons of all skipped tests: for want of the real data, and for anything else."""
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    missing = counts.pop(WITHOUT_DATA, 0)
    lines = (
        [f"{missing} skipped for want of the real data: not in {place} (FACE4D_DATA=folder names another place)"]
        if missing
        else []
    )
    if counts:
        others = "; ".join(f"{count} {reason}" for reason, count in counts.most_common())
        lines.append(f"{counts.total()} skipped for another reason: {others}")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested, in a line or two."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    for line in skipped_in_words(reasons, REAL_DATA):
        terminalreporter.write_line(line)


@pytest.fixture
def reference() -> Callable[[str], dict[str, np.ndarray]]:
    """Loads the vectors of one case of tests/reference."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(REPOSITORY / "tests" / "reference" / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script or a command (``face4d fit``) of the repository in a folder, as a user would, on one thread."""

    def run(script: str, *arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            *(["-m", *script.split()] if script.startswith("face4d ") else [str(REPOSITORY / script)]),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=environment, timeout=300
        )
        assert not check or result.returncode == 0, result.stderr
        return result

    return run


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """:func:`run_script` without a new process, which would take seconds to load torch: exit code, last line and
    all."""

    def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [str(REPOSITORY / script), *map(str, arguments)]
        capsys.readouterr()
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
            patch.chdir(cwd)
            patch.setattr(sys, "argv", command)
            runpy.run_path(command[0], run_name="__main__")
        return subprocess.CompletedProcess(command, left.value.code, *capsys.readouterr())

    return run


def load_script(path: str) -> ModuleType:
    """A script of the repository as a module, ``load_script("main.py").train``; two of a name are told apart by their
    paths."""
    name = path.removesuffix(".py").replace("/", "_") + "_script"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look it up
        spec.loader.exec_module(module)
    return sys.modules[name]


def read_sequence(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (T, V, 3) of frames, and the triangles of the first."""
    return np.stack(list(iterate_vertices(paths))), read_mesh(paths[0])[1]


def toy_head() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (204, 3) metres and triangles (68, 3): a small triangle around each of the 68 landmarks of a face."""
    corners = np.random.default_rng(99).normal(0, 0.002, (68, 3, 3))
    points = FACE_SIZE * MEAN_FACE[:, None] + corners - corners.mean(axis=1, keepdims=True)
    return points.reshape(204, 3).round(6), np.arange(204, dtype=np.int32).reshape(68, 3)


def toy_sequence(label: int, subject: int, frames: int) -> np.ndarray:
    """(T, 68, 3) metres: a subject's face moving along its label's direction, up to a subject's own apex and back."""
    face = FACE_SIZE * MEAN_FACE + np.random.default_rng(200 + subject).normal(0, 0.002, (68, 3))
    direction = np.random.default_rng(300 + label).normal(0, 0.004, (68, 3))
    apex = (0.3 + 0.4 * ((7 * subject + 3 * label) % 10) / 9) * (frames - 1)
    time = np.arange(frames)
    activation = np.where(time < apex, time / apex, (frames - 1 - time) / (frames - 1 - apex))
    return (face + np.sin(0.5 * np.pi * activation)[:, None, None] ** 2 * direction).astype(np.float32)


@pytest.fixture
def landmark_folder(tmp_path: Path) -> Path:
    """A plain landmark folder: Happy, Rage, Scream of CH01..CH05, 13 frames; CH01 and CH02 are the thesis' test
    subjects."""
    return write_landmarks(
        tmp_path / "landmarks", ("Happy", "Rage", "Scream"), ("CH01", "CH02", "CH03", "CH04", "CH05"), 13
    )


def write_landmarks(folder: Path, labels: Sequence[str], subjects: Sequence[str], frames: int) -> Path:
    """Write toy sequences as ``<label>_<subject>.npy``."""
    folder.mkdir(parents=True)
    for label_number, label in enumerate(labels):
        for subject_number, subject in enumerate(subjects):
            np.save(folder / f"{label}_{subject}.npy", toy_sequence(label_number, subject_number, frames))
    return folder


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something that another process or thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A chromium that draws in software, by playwright; skips where either is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install -e '.[browser]')")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium (apt-get install chromium, or CHROMIUM=PATH)")
    software = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=software)
        yield chromium
        chromium.close()


class Window:
    """A page in a context of its own, what it complained of (messages of the console of the kinds ``heard``, all by
    default, and errors) and what it asked for.
    """

    def __init__(
        self, browser: Any, address: str, *, seconds: float, heard: Sequence[str] = (), **context: Any
    ) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * seconds)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda one: self.complaints.extend([one.text] * (not heard or one.type in heard)))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = address
        self.page.goto(address)

    def picture(self, **what: Any) -> np.ndarray:
        """(H, W, 3) int16 of the window, or of a part of it."""
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot(**what))).convert("RGB"), np.int16)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels of two screenshots, (H, W, 3) int16, that differ."""
    return float((np.abs(before - after).max(axis=2) > 12).mean())
