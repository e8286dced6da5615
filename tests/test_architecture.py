"""Imports go down the layers of docs/architecture.md, never up and never in a circle; only commands/ reads flags."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

LIBRARY = REPOSITORY / "face4d"
COMMANDS = ("face4d.commands", "face4d.__main__")
HEAVY = ("torch", "matplotlib", "trimesh")
# What a bar in a terminal and a Python without the packages have to say cannot go through a log.
PRINTING = {"face4d.runtime.progress", "face4d.runtime.environment"}


@cache
def modules() -> dict[str, Path]:
    """Path of every module and package of the library, by its dotted name."""
    names = {path: ".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in LIBRARY.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in sorted(names.items())}


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """Modules of the library that a module imports, anywhere in it but for types alone."""
    tree = parsed(name)
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part if part in modules() else str(node.module) for part in parts}
    return frozenset(found & modules().keys())


@cache
def layers() -> tuple[tuple[str, ...], ...]:
    """The lines of docs/architecture.md, the lowest first: packages with a slash, modules with ``.py``."""
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page[page.index("## Layers") :].partition("\n## ")[0]
    lines = [re.match(r"    ((?:[\w.]+(?:/|\.py)\s?)+) ", line) for line in section.splitlines()]
    return tuple(tuple(line[1].split()) for line in reversed(lines) if line)


def place(name: str) -> tuple[int, str]:
    """The layer of a module, and its package or own name there."""
    part = name.split(".")[1]
    for number, layer in enumerate(layers()):
        for entry in (f"{part}/", f"{part}.py"):
            if entry in layer:
                return number, entry
    raise AssertionError(f"{name} has no layer in docs/architecture.md")


def inside(name: str) -> bool:
    return name.count(".") >= 1 and not name.endswith("__main__")


def test_every_package_has_a_layer_and_every_layer_exists():
    entries = [entry for layer in layers() for entry in layer]
    packages = {path.parent for path in LIBRARY.glob("*/__init__.py")}
    alone = {path.name for path in LIBRARY.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert sorted(entries) == sorted({f"{path.name}/" for path in packages} | alone)


@pytest.mark.parametrize("name", [name for name in modules() if inside(name)])
def test_imports_go_down(name):
    own, entry = place(name)
    for other in imports(name):
        if not inside(other):
            continue
        below, target = place(other)
        side = below == own and (target == entry or (target.endswith(".py") and entry.endswith(".py")))
        assert below < own or side, f"{name} imports {other}"


def test_no_circles():
    def circle(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return path[path.index(name) :]
        if name in seen:
            return ()
        found = next((way for other in sorted(imports(name)) if (way := circle(other, (*path, name)))), ())
        seen.add(name)
        return found

    seen: set[str] = set()
    for name in modules():
        assert circle(name, ()) == ()


def test_only_commands_know_argparse():
    knowing = {
        name
        for name in modules()
        for node in ast.walk(parsed(name))
        if (isinstance(node, ast.Import) and any(alias.name == "argparse" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "argparse")
    }
    assert {name for name in knowing if not name.startswith(COMMANDS)} == set()
    assert "face4d.commands.cli" in knowing


def test_only_commands_print():
    printing = {
        name
        for name in modules()
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {name for name in printing if not name.startswith(COMMANDS)} <= PRINTING
    assert "face4d.commands.cli" in printing


def test_scripts_are_not_imported():
    scripts = {path.stem for path in REPOSITORY.glob("*.py")} | {"Classification", "Sparse2Dense", "Reconstruction"}
    for name in modules():
        for node in ast.walk(parsed(name)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {part.split(".")[0] for part in names} & scripts, name


def test_importing_the_library_loads_nothing_heavy():
    command = f"import sys, face4d; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
