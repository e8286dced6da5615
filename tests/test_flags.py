"""Every number on every command line has a range; whatever is written by default stays out of version control."""

import argparse
import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from face4d.__main__ import COMMANDS
from face4d.commands import cli
from face4d.datasets.entry import DATASETS, ResampledMeshes
from face4d.errors import InputError
from tests.conftest import REPOSITORY

SCRIPTS = [
    path.relative_to(REPOSITORY).as_posix()
    for folder in (".", "Classification", "Sparse2Dense", "Reconstruction", "benchmarks", "git_readme_img")
    for path in sorted((REPOSITORY / folder).glob("*.py"))
    if "cli.parser(" in path.read_text(encoding="utf-8")
]
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
# The library has one entry to run, and its commands are modules of face4d/commands with a main.
ENTRIES = [
    path.relative_to(REPOSITORY / "face4d").as_posix()
    for path in sorted((REPOSITORY / "face4d").rglob("*.py"))
    if re.search(r"^    cli\.run\(|^if __name__ ==", path.read_text(encoding="utf-8"), re.M)
]
MODULES = [
    path.stem.replace("_", "-")
    for path in sorted((REPOSITORY / "face4d" / "commands").glob("*.py"))
    if re.search(r"^def main\(", path.read_text(encoding="utf-8"), re.M)
]
# Wrong for every flag, and for those that must not be negative or fractions.
WRONG = ("nan", "inf", "-inf", "1" + "0" * 30, "12345678901234567890", "1e300", "-1e300", "", "one", "9" * 5000)
NEGATIVE = {"--intensity", "--strength", "--contour-angle", "--box"}
OUTPUTS = ("--output", "--models", "--runs", "--results", "--generated", "--landmarks", "--data")


class _Caught(Exception):
    pass


def _parser(name: str) -> argparse.ArgumentParser:
    """The parser that a script or a module of the library makes first."""

    def stop(self, *_, **__):
        raise _Caught(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [name] if name.endswith(".py") else ["face4d", name])
        try:
            if name.endswith(".py"):
                patch.syspath_prepend(str((REPOSITORY / name).parent))
                patch.setattr(cli, "run", lambda main, argv=None: main([]))
                runpy.run_path(str(REPOSITORY / name), run_name="__main__")
            else:
                runpy.run_module("face4d", run_name="__main__")
        except _Caught as caught:
            return caught.args[0]
    raise AssertionError(f"{name}: no parser")


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return {name: _parser(name) for name in (*SCRIPTS, *MODULES)}


def _numeric(action: argparse.Action) -> bool:
    for text in ("1", "0.5"):
        with contextlib.suppress(Exception):
            return isinstance(action.type(text), (int, float))
    return False


def test_all_command_lines_are_seen(parsers):
    assert {
        "main.py",
        "test.py",
        "figures.py",
        "sampling_coma.py",
        "Sparse2Dense/main.py",
        "Reconstruction/deca.py",
    } < set(SCRIPTS)
    assert ENTRIES == ["__main__.py"] and set(MODULES) == set(COMMANDS) >= {"dataset", "demo", "fit", "landmarks"}
    assert sum(_numeric(action) for parser in parsers.values() for action in parser._actions if action.type) > 100


def test_every_number_has_a_range(parsers):
    tried = 0
    for name, parser in parsers.items():
        for action in parser._actions:
            if action.type is None or not _numeric(action):
                continue
            flag = action.option_strings[-1]
            where = f"{name} {flag}"
            assert isinstance(action.type, cli.Range) or action.choices, f"{where}: a type of cli.integer or cli.number"
            values = (*WRONG, *(() if flag in NEGATIVE else ("-1",)))
            for value in values:
                words = [f"{flag}={value}"] if action.nargs in (None, "?") else [flag, "1", "1", "9", value]
                if action.nargs not in (None, "?") and value.startswith("-"):
                    continue  # looks like a flag
                said = io.StringIO()
                with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as left:
                    parser.parse_args(words)
                assert left.value.code == 2, f"{where}={value}"
                line = said.getvalue()
                assert line.count("\n") == 1 and flag in line and "expected" in line, f"{where}={value}: {line}"
                tried += 1
            if action.default is not None:
                assert action.type(str(action.default)) == action.default, f"{where}: its own default"
    assert tried > 1000


def test_words_are_read_back_as_the_values_they_were_made_of():
    parser = cli.Parser("x")
    parser.add_argument("--lr", type=cli.number(-1, 10))
    parser.add_argument("--labels", nargs="+", default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("out"))
    cli.add_switch(parser, "augment", None, "")
    cli.add_run_flags(parser, "seed")
    for values in (
        {"lr": 1e-05, "labels": ["Happy", "Rage"], "resume": True, "augment": False, "seed": 3},
        {"lr": -0.1, "augment": True, "output": Path("a b/c")},
        {"lr": None, "labels": [], "resume": False, "output": Path("out"), "seed": 27},
    ):
        read = vars(parser.parse_args(parser.words(values)))
        assert {name: read[name] for name in values} == values
    assert parser.words(values) == []  # what a flag takes without being typed
    with pytest.raises(KeyError, match="colour"):
        parser.words({"colour": "red"})


def test_bounds_belong_to_a_range():
    whole, part = cli.integer(1, 5), cli.share
    assert whole("1") == 1 and whole("5") == 5 and part("1") == 1.0 and part("1e-9") > 0
    for kind, text in ((whole, "0"), (whole, "6"), (whole, "1.5"), (part, "0"), (part, "1.01"), (part, "nan")):
        with pytest.raises(argparse.ArgumentTypeError, match="expected .* found"):
            kind(text)
    assert str(whole) == "a whole number from 1 to 5" and str(part) == "a number above 0, at most 1"


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ((), True),
        (("--no-gif",), False),
        (("--no-gif", "--dense"), True),
        (("--no-gif", "--dense", "--export", "mp4"), False),
    ],
)
def test_a_gif_has_fifty_frames_a_second_at_most(words, refused, capsys):
    main = runpy.run_path(str(REPOSITORY / "test.py"))["main"]
    with pytest.raises((SystemExit, InputError)) as left:
        main(["--checkpoint", "nowhere.pt", "--fps", "60", *words])
    assert isinstance(left.value, SystemExit) == refused
    assert ("--fps: expected at most 50 in a GIF, found 60" in capsys.readouterr().err) == refused


def _written_by_default(parsers) -> set[str]:
    """Folders that scripts write, or that the steps hand on, where no flag says otherwise."""
    found = {Path("Reconstruction_DECA"), Path("demo", "vrn")}  # as an example of what has to be among them
    for parser in parsers.values():
        for action in parser._actions:
            if isinstance(action.default, Path) and set(action.option_strings) & set(OUTPUTS):
                found.add(action.default)
            for told in (
                re.findall(r"default: ([\w/]+)(?=[/<);,]|$)", action.help or "")
                if set(action.option_strings) & set(OUTPUTS)
                else ()
            ):
                found.add(Path(told))
    for entry in DATASETS.values():
        found |= {
            entry.models,
            entry.runs,
            entry.results,
            entry.figures,
            entry.generated,
            *([entry.landmarks] if entry.landmarks else []),
        }
        for meshes in entry.meshes:
            found |= {
                meshes.folder,
                meshes.landmarks,
                *([meshes.resampled] if isinstance(meshes, ResampledMeshes) else []),
            }
    return {path.as_posix() for path in found if not path.is_absolute()}


# What the documents' and docstrings' examples write.
EXAMPLE = re.compile(r"python [^\n]*--output[ =]([A-Za-z0-9_][\w./-]*)")


def _written_in_examples() -> set[str]:
    texts = [
        path
        for pattern in ("*.py", "*/*.py", "face4d/**/*.py", "*.md", "docs/*.md", "run.sh")
        for path in REPOSITORY.glob(pattern)
    ]
    texts = [
        path
        for path in texts
        if "tests" not in path.parts and ".venv" not in path.parts and "demo" not in path.relative_to(REPOSITORY).parts
    ]
    found = {match for path in set(texts) for match in EXAMPLE.findall(path.read_text(encoding="utf-8"))}
    return {place.rstrip("./") for place in found if ".." not in place}


def _not_ignored(places: set[str]) -> set[str]:
    """Those whose files ``git add .`` would take."""
    asked = "".join(f"{place}{'' if Path(place).suffix else '/somebody.bin'}\n" for place in sorted(places))
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"], cwd=REPOSITORY, input=asked, capture_output=True, text=True
    )
    if answer.returncode > 1:
        pytest.skip(f"needs a checkout of git: {answer.stderr.strip()}")
    return set(asked.split()) - set(answer.stdout.split())


def test_faces_do_not_get_into_version_control(parsers):
    places = _written_by_default(parsers)
    assert {
        "Reconstruction_DECA",
        "Inversion_Dataset",
        "Reconstruction_VRN",
        "figures",
        "results",
        "runs",
        "demo/models",
    } <= places
    assert _not_ignored(places) == set()


def test_nor_does_what_the_examples_write():
    places = _written_in_examples()
    assert len(places) > 3
    assert _not_ignored(places) == set()
    kept = {"README.md", "face4d/landmarks.py", "Dataset_FLAME_Aligned/README.md", "models/README.md"}
    assert _not_ignored(kept) == kept
