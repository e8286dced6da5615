"""Steps killed at some of their renames and removals, then run again: nothing is mixed, refused, lost or left over.

benchmarks/kills.py does it at every one of them and at random moments, for all commands.
"""

import importlib
import importlib.util
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from face4d.mesh.ply import write_ply
from face4d.runtime.files import is_visible
from tests.conftest import REPOSITORY, toy_sequence, write_landmarks

PLACES = 5  # of a step where it is killed

SUBJECTS = ("Demo01", "Demo02")
ALONE = ["--workers", "1", "--quiet"]


def module(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # its dataclasses look it up
    spec.loader.exec_module(loaded)
    return loaded


kills = module("kills", REPOSITORY / "benchmarks" / "kills.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Meshes of two subjects and where landmarks lie on them; toy landmarks, and a generator trained on them."""
    from face4d.datasets.landmark_set import load_split
    from face4d.generation.config import PRESETS
    from face4d.runtime.run_folder import Run
    from tests.conftest import load_script

    root = tmp_path_factory.mktemp("kills")
    faces = np.arange(204, dtype=np.int32).reshape(68, 3)  # a triangle around each landmark
    for number, subject in enumerate(SUBJECTS):
        for frame, face in enumerate(toy_sequence(0, number, 8)):
            vertices = np.repeat(face, 3, axis=0) + np.tile(1e-3 * np.eye(3), (68, 1))
            write_ply(root / "meshes" / subject / "mouth_open" / f"mouth_open.{frame:06d}.ply", vertices, faces)
    np.savez(root / "own.npz", face_idx=np.arange(68), bary=np.full((68, 3), 1 / 3), faces=faces)
    landmarks = write_landmarks(root / "landmarks", ("Happy", "Rage"), ("CH01", "CH03", "CH04"), 9)
    split = replace(
        load_split(landmarks, test_subjects=("CH01",)),
        source={"dataset": "florence", "landmarks": str(landmarks), "test_subjects": ["CH01"]},
    )
    run = Run("x", root / "models", root / "runs", quiet=True)
    load_script("main.py").train(split, PRESETS["default"].with_settings({"hidden_size": 4, "epochs": 2}), run)
    return root


def sampling(data, *more):
    return "sampling_coma.py", "--input", data / "meshes", "--output", "out", "--frames", 5, *more, *ALONE


def landmarks(data, *more):
    own = "--landmark-embedding", data / "own.npz"
    return "get_landmark_coma.py", "--input", data / "meshes", "--output", "out", *own, "--frames", 5, *more, *ALONE


def generation(data, *more):
    return "test.py", "--checkpoint", data / "models" / "x.pt", "--output", "out", "--no-gif", "--quiet", *more


STEPS = {
    "sampling": (None, sampling, ()),
    "sampling --overwrite": (lambda data: sampling(data, "--method", "thesis"), sampling, ("--overwrite",)),
    "landmarks --overwrite": (
        lambda data: landmarks(data, "--test-subjects", "Demo01"),
        landmarks,
        ("--test-subjects", "Demo02", "--overwrite"),
    ),
    "generation": (None, generation, ()),
    "generation --overwrite": (lambda data: generation(data, "--intensity", 2), generation, ("--overwrite",)),
}


def call(command) -> None:
    script, *arguments = command
    module(Path(script).stem, REPOSITORY / script).main([str(word) for word in arguments])


def killed(command, number: int) -> int:
    """Run a command in a child that kills itself at its n-th rename or removal; 0 = count them. Returns that count, or
    minus the signal."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            calls = kills._count_calls(number)
            call(command)
            os.write(writer, str(calls[0]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    told = os.read(reader, 20)
    os.close(reader)
    return int(told or os.waitstatus_to_exitcode(status))


@pytest.mark.parametrize("name", STEPS)
def test_a_killed_step_goes_on(name, data, tmp_path, monkeypatch):
    before, command, more = STEPS[name]
    command = command(data, *more)
    old, new, work = (tmp_path / part for part in ("old", "new", "work"))
    old.mkdir()
    monkeypatch.chdir(old)
    if before:
        call(before(data))
    shutil.copytree(old, new)
    monkeypatch.chdir(new)
    count = killed(command, 0)
    wanted, had = kills.snapshot(new, ["out"]), kills.snapshot(old, ["out"])
    assert count > 2 and wanted and wanted != had
    for number in sorted({1 + k * count // PLACES for k in range(PLACES)}):
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(old, work)
        monkeypatch.chdir(work)
        assert killed(command, number) == -signal.SIGKILL
        for file, content in kills.snapshot(work, ["out"]).items():
            assert content in (had.get(file), wanted.get(file)), (number, file)
        for folder in (path for path in (work / "out").rglob("*") if path.is_dir() and is_visible(path, work)):
            inside = [path.relative_to(work).as_posix() for path in folder.iterdir() if path.is_file()]
            if any(path.endswith((".ply", "made.json")) for path in inside):
                # of a folder with a record all files are old, or all are new
                states = [{path: state.get(path) for path in inside} for state in (had, wanted)]
                assert {path: kills.digest(work / path) for path in inside} in states, (number, folder)
        call(command)
        assert kills.snapshot(work, ["out"]) == wanted, number
        assert kills.hidden(work, ["out"]) == [], number


def test_a_killed_demo_is_made_anew(tmp_path, monkeypatch):
    command = ["--output", "demo", "--subjects", "1", "--labels", "mouth_open", "--florence-labels", "--quiet"]
    main = importlib.import_module("face4d.commands.demo").main
    monkeypatch.setattr(sys.modules[__name__], "call", main)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    count = killed(command, 0)
    monkeypatch.chdir(tmp_path / "killed")
    assert killed(command, count // 2) == -signal.SIGKILL  # while files move to their places
    main(command)
    assert kills.snapshot(tmp_path / "killed", ["demo"]) == kills.snapshot(tmp_path / "whole", ["demo"])
    assert kills.hidden(tmp_path / "killed", ["demo"]) == []
