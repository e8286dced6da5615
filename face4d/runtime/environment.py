"""Whether this Python is the one that the program was installed for. Reads in any Python 3.7 and needs no package."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_OLDEST = (3, 10)
_ALWAYS_NEEDED = ("numpy", "torch")
UNCHECKED = "FACE4D_PACKAGES"  # = unchecked: of run.sh, which asks what a data set says before it installs


def require_packages() -> None:
    """Stop where the packages are missing, before any import of them fails: a program with one line and exit code 2.

    Raises:
        SystemExit: in a program of this repository.
        ModuleNotFoundError: with the same line, in someone else's.
    """
    if os.environ.get(UNCHECKED) == "unchecked":
        return
    if sys.version_info < _OLDEST:
        package, line = (
            "face4d",
            wrong_python(
                f"Python {'.'.join(map(str, _OLDEST))} or newer", f"{sys.version_info[0]}.{sys.version_info[1]}"
            ),
        )
    else:
        package = next((name for name in _ALWAYS_NEEDED if find_spec(name) is None), "")
        if not package:
            return
        line = missing_package(package)
    program = sys.argv[0]
    if program == "-m" or (program.endswith(".py") and REPOSITORY in list(Path(program).resolve().parents)[:2]):
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2)
    raise ModuleNotFoundError(line, name=package)


def missing_package(name: str) -> str:
    """The line about a package that cannot be imported."""
    return wrong_python("the packages of requirements.txt", f"no {name}")


def wrong_python(expected: str, found: str) -> str:
    """The line about a Python that does not have what it takes, and which one has."""
    environment = REPOSITORY / ".venv"
    if Path(sys.prefix).resolve() == environment:
        advice = f"{_shown(environment)}/bin/python -m pip install -r {_shown(REPOSITORY / 'requirements.txt')}"
    elif (environment / "bin" / "python").exists():
        advice = f"start it with {_shown(environment)}/bin/python, or first: source {_shown(environment)}/bin/activate"
    else:
        advice = f"install them: bash {_shown(REPOSITORY / 'run.sh')} install"
    return f"{sys.executable}: expected {expected}, found {found} ({advice})"


def typed_python() -> str:
    """How one types the Python that runs: ``python``, or ``.venv/bin/python`` where no environment is active."""
    environment = REPOSITORY / ".venv"
    active = "VIRTUAL_ENV" in os.environ or Path(sys.prefix).resolve() != environment
    return "python" if active else f"{_shown(environment)}/bin/python"


def typed_script(name: str) -> str:
    """How one types a script of this repository from the working folder."""
    return _shown(REPOSITORY / name)


def _shown(path: Path) -> str:
    """As one would type it: short where it lies below the working folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
