"""A forgotten environment, and two checkouts on one machine."""

import os
import subprocess
import sys

import pytest

from face4d.runtime import environment
from tests.conftest import REPOSITORY

PROGRAMS = [
    "main.py",
    "test.py",
    "Classification/test.py",
    "Sparse2Dense/main.py",
    "Reconstruction/deca.py",
    "-m face4d landmarks",
]


def without_packages(program: str, cwd, *more: str) -> subprocess.CompletedProcess[str]:
    """A program in a Python that has its standard library and nothing else."""
    command = [
        sys.executable,
        "-S",
        *(program.split() if program.startswith("-m") else [str(REPOSITORY / program)]),
        *more,
    ]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_forgotten_environment_is_one_line(program):
    result = without_packages(program, REPOSITORY)
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1, result.stderr
    assert "expected the packages of requirements.txt, found no numpy" in result.stderr


def test_the_line_names_the_python_that_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert environment.missing_package("torch").endswith("found no torch (install them: bash run.sh install)")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert "start it with .venv/bin/python, or first: source .venv/bin/activate" in environment.missing_package("torch")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f"start it with {tmp_path}/.venv/bin/python" in environment.missing_package("torch")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert "/.venv/bin/python -m pip install -r " in environment.missing_package("torch")


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    # no program of this repository
    with pytest.raises(ModuleNotFoundError, match="expected Python 3.10 or newer, found 3.8 "):
        environment.require_packages()
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "Classification" / "main.py")])
    with pytest.raises(SystemExit) as left:
        environment.require_packages()
    assert left.value.code == 2


def test_scripts_use_the_library_beside_them(tmp_path):
    """Whatever is installed: here nothing, and another library of that name on the path."""
    (tmp_path / "face4d").mkdir()
    (tmp_path / "face4d" / "__init__.py").write_text("raise SystemExit('another checkout')")
    folders = {
        script.parent
        for pattern in ("*.py", "[!.]*/*.py")
        for script in REPOSITORY.glob(pattern)
        if "from face4d" in script.read_text()
    }
    for folder in folders - {REPOSITORY / "tests", REPOSITORY / "face4d"}:
        assert (folder / "face4d").resolve() == REPOSITORY / "face4d", folder
    command = [sys.executable, str(REPOSITORY / "Classification" / "main.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
