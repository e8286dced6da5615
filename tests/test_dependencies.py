"""pyproject.toml says what is imported, no more and no less; requirements.txt pins it."""

import ast
import importlib.metadata
import re
import sys

import pytest

from tests.conftest import REPOSITORY

LIBRARY = sorted((REPOSITORY / "face4d").rglob("*.py"))
SCRIPTS = [
    path
    for folder in (".", "Classification", "Sparse2Dense", "Reconstruction")
    for path in (REPOSITORY / folder).glob("*.py")
]
WITHOUT_IMPORT = {"dask", "ray"}  # face4d/runtime/parallel imports them by name

pyproject = pytest.importorskip("tomllib").loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def canonical(requirement: str) -> str:
    """The name of a distribution, as packaging spells it."""
    return re.sub("[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def imported(paths):
    """Top-level names of packages from outside, with the first file that imports each."""
    found = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for name in {name.split(".")[0] for name in names} - {"face4d"} - set(sys.stdlib_module_names):
                found.setdefault(name, path)
    return found


DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "cv2": "opencv-python-headless"}


def distribution(package: str) -> str:
    return canonical(DISTRIBUTIONS.get(package, package))


def test_declared_are_the_packages_that_are_imported():
    core = {canonical(requirement) for requirement in pyproject["dependencies"]}
    extras = {
        canonical(line)
        for name in ("dask", "ray", "detect", "photo", "view")
        for line in pyproject["optional-dependencies"][name]
    }
    used = {distribution(package): path for package, path in imported([*LIBRARY, *SCRIPTS]).items()}
    assert not {name: str(used[name]) for name in used.keys() - core - extras}
    assert not core - used.keys(), "declared, but never imported"
    assert not extras - used.keys() - WITHOUT_IMPORT
    parallel = (REPOSITORY / "face4d" / "runtime" / "parallel.py").read_text()
    assert all(f'"{name}' in parallel for name in WITHOUT_IMPORT)


def test_the_names_of_distributions_are_those_installed():
    installed = importlib.metadata.packages_distributions()
    for package in imported([*LIBRARY, *SCRIPTS]):
        if package in installed:
            assert distribution(package) in map(canonical, installed[package]), package


def test_what_is_declared_is_pinned_and_the_pins_fit():
    packaging = pytest.importorskip("packaging.requirements")
    pins = {}
    for line in (REPOSITORY / "requirements.txt").read_text().splitlines():
        if "==" in line:
            pin = packaging.Requirement(line)
            pins.setdefault(canonical(pin.name), []).append(next(iter(pin.specifier)).version)
    for line in pyproject["dependencies"]:
        wanted = packaging.Requirement(line)
        assert pins.get(canonical(wanted.name)), line
        assert all(wanted.specifier.contains(version) for version in pins[canonical(wanted.name)]), line
