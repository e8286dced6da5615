"""The commands of the library: one entry, ``python -m face4d``."""

import importlib
import subprocess
import sys

import pytest

from face4d.__main__ import COMMANDS, main
from face4d.errors import InputError
from tests.conftest import REPOSITORY


def test_the_list_has_a_line_of_each_and_loads_nothing_heavy():
    code = """
import runpy, sys
sys.argv = ["face4d", "--help"]
try:
    runpy.run_module("face4d", run_name="__main__")
finally:
    print([name for name in ("torch", "numpy", "matplotlib", "scipy", "trimesh") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    usage, *lines, heavy = done.stdout.strip().splitlines()
    assert usage.startswith("usage: ") and "-m face4d COMMAND" in usage and heavy == "[]"
    told = [line for line in lines if line.strip()]
    assert [line.split()[0] for line in told] == list(COMMANDS)
    assert all(line.endswith(".") and len(line) <= 120 for line in told)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_typed_again_as_it_was_typed(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["face4d", name, "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0 and f"python -m face4d {name} [-h]" in " ".join(capsys.readouterr().out.split())


def test_a_command_that_does_not_exist_is_one_line(run_script):
    with pytest.raises(InputError, match="expected a command .*, found fti; the nearest is fit"):
        main(["fti"])
    failed = run_script("face4d nothing", cwd=REPOSITORY, check=False)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1


def test_commands_are_modules_with_a_parser_and_a_main():
    for name in COMMANDS:
        module = importlib.import_module(f"face4d.commands.{name.replace('-', '_')}")
        assert callable(module.main) and callable(module.build_parser)
