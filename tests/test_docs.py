"""README, docs and docstrings: their commands are accepted, the flags and files they name exist, their links lead
somewhere."""

from __future__ import annotations

import argparse
import ast
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from face4d.__main__ import COMMANDS as face4d_commands
from face4d.commands import cli
from tests.conftest import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted(REPOSITORY.glob("[!.]*/README.md")),
    *sorted((REPOSITORY / "benchmarks" / "results").glob("*.md")),
]
SCRIPTS = [
    *(path for path in sorted(REPOSITORY.glob("*.py"))),
    *(
        path
        for folder in ("Classification", "Reconstruction", "Sparse2Dense")
        for path in sorted((REPOSITORY / folder).glob("*.py"))
    ),
    *(REPOSITORY / name for name in ("benchmarks/run.py", "benchmarks/unroll.py", "git_readme_img/regenerate.py")),
]
COMMANDS = [f"face4d {command}" for command in face4d_commands]
# programs are started where others ran before
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
FOREIGN_FLAGS = {
    "--nproc-per-node",
    "--shutdown-timeout",
    "--signal",
    "--cpus-per-task",
    "--index-url",
    "--all-files",
    "--check",
    "--fix",
}
WRITTEN = ("demo/", "figures/", "models/", "results/", "runs/")  # what lies in these folders is made by the steps


class Parsed(BaseException):
    """A parser that was reached, with nothing done after it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parse(program: str, arguments: list[str]) -> str | None:
    """What a program's parser has against arguments, None for nothing. The program goes no further."""
    original = argparse.ArgumentParser.parse_args
    complaints: list[str] = []

    def parse_and_stop(self, args=None, namespace=None):
        original(self, args, namespace)
        raise Parsed(self)

    def complain(self, message):
        complaints.append(message)
        raise SystemExit(2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(cli.Parser, "error", complain)
        patch.setattr(sys, "argv", [*_words(program), *arguments])
        try:
            _start(program)
        except Parsed:
            return None
        except SystemExit:
            return complaints[0] if complaints else "left without parsing"
    return "did not parse"


@cache
def flags_of(program: str) -> frozenset[str]:
    """All flags of a program."""

    def stop(self, args=None, namespace=None):
        raise Parsed(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", _words(program))
        with pytest.raises(Parsed) as reached:
            _start(program)
    return frozenset(reached.value.parser._option_string_actions)


def _words(program: str) -> list[str]:
    """What stands before a program's flags in ``sys.argv``; the first word is its file's, ``face4d fit`` are two."""
    return program.split()


def _start(program: str) -> None:
    if program.endswith(".py"):
        runpy.run_path(str(REPOSITORY / program), run_name="__main__")
    else:
        runpy.run_module("face4d", run_name="__main__", alter_sys=True)


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


PROGRAMS = {*map(name, SCRIPTS), *COMMANDS}


def all_flags() -> set[str]:
    return set().union(*map(flags_of, PROGRAMS))


def command_lines(text: str) -> Iterator[str]:
    """Lines of code blocks, indented or fenced, continued lines joined."""
    text = re.sub(r" \\\n\s*", " ", text)
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def inline_code(text: str) -> Iterator[str]:
    """What stands between single backticks outside code blocks."""
    text = re.sub(r"^(```.*?^```|    .*?)$", "", text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"`([^`\n]+)`", text):
        yield match.group(1)


def programs_called(line: str) -> Iterator[tuple[str, list[str]]]:
    """Programs of this repository that a shell line starts, with their arguments."""
    for command in re.split(r"&&|;|\|", line):
        try:
            words = shlex.split(command, comments=True)
        except ValueError:
            continue  # prose
        words = [word.removeprefix(".venv/bin/") for word in words]
        while words and (words[0] == "srun" or "=" in words[0]):
            words.pop(0)
        if not words:
            continue
        if words[0] == "torchrun":
            script = next((number for number, word in enumerate(words) if word.endswith(".py")), None)
            if script is not None:
                yield words[script], words[script + 1 :]
        elif words[0] in ("python", "py") and len(words) > 1:
            if words[1:3] == ["-m", "face4d"] and len(words) > 3:
                yield f"face4d {words[3]}", words[4:]
            elif words[1].endswith(".py"):
                yield words[1], words[2:]


def complaints_about(text: str) -> list[str]:
    """One line for each command of a text that its program would refuse, or that starts a program that does not
    exist."""
    found = []
    for line in command_lines(text):
        for program, arguments in programs_called(line):
            if program.endswith(".py") and not (REPOSITORY / program).is_file():
                found.append(f"{line}: no {program}")
            elif complaint := parse(program, arguments):
                found.append(f"{line}: {complaint}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_pages_are_accepted(page):
    assert complaints_about(page.read_text()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_commands_of_docstrings_are_accepted(script):
    text = ast.get_docstring(ast.parse(script.read_text())) or ""
    commands = [call for line in command_lines(text) for call in programs_called(line)]
    assert any(program == name(script) for program, _ in commands), "no command to copy"
    assert complaints_about(text) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_command_help_are_accepted(command, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*_words(command), "--help"])
        with pytest.raises(SystemExit):
            _start(command)
    text = capsys.readouterr().out
    assert any(program == command for line in command_lines(text) for program, _ in programs_called(line)), (
        "no command to copy"
    )
    assert complaints_about(text) == []


def test_commands_of_run_sh_are_accepted():
    text = (REPOSITORY / "run.sh").read_text()
    lines = "\n".join(f"    {line.strip()}" for line in text.splitlines() if line.strip().startswith("py "))
    assert lines.count("main.py --dataset") >= 3
    assert complaints_about(lines.replace('--dataset "$1"', "--dataset coma")) == []


def test_help_loads_nothing_heavy_and_tells_the_presets_values():
    code = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:
        runpy.run_path(script, run_name="__main__")
    loaded = [name for name in ("torch", "matplotlib", "scipy", "trimesh") if name in sys.modules]
    print(script, told.getvalue(), loaded)
"""
    programs = [path for path in SCRIPTS if path.parent.name not in ("benchmarks", "git_readme_img")]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, programs)], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    told = " ".join(done.stdout.split())
    assert told.count("[]") == len(programs), re.findall(r"\[['a-z, ]+\]$", done.stdout, flags=re.MULTILINE)
    for text in (
        "(default: 128; thesis: 512; motion3dgan: 256; flow: 256)",
        "(default: l2; thesis: l1)",
        "(default: 60; thesis: 2000)",
        "mixtures (default: yes; thesis: no)",
        "landmarks (default: 1)",
    ):
        assert text in told, text


def test_a_wrong_command_is_found():
    assert "--hiden-size" in complaints_about("    python main.py --hiden-size 3")[0]
    assert "no mian.py" in complaints_about("    python mian.py --dataset demo")[0]
    assert "required" in complaints_about("    python Classification/test.py --generated x  # no checkpoint")[0]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_in_the_text_exist(page):
    unknown = []
    for code in inline_code(page.read_text()):
        words = code.split()
        named = (f"face4d {after}" if word == "face4d" else word for word, after in zip(words, [*words[1:], ""]))
        program = next((word for word in named if word in PROGRAMS), None)
        known = (flags_of(program) if program else all_flags()) | FOREIGN_FLAGS
        unknown += [
            f"{word} in `{code}`" for word in words if re.fullmatch(r"--[a-z][a-z0-9-]+", word) and word not in known
        ]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_in_the_text_exist(page):
    """Paths of this repository's own kind, as from its root, from face4d/, or from the page."""
    missing = []
    for code in inline_code(page.read_text()):
        if re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|md|sh|mplstyle)", code) and not (
            code.startswith(WRITTEN) and code != "models/README.md"
        ):
            roots = (REPOSITORY, REPOSITORY / "face4d", page.parent)
            if not any((root / code).is_file() for root in roots):
                missing.append(code)
    assert missing == []


def unresolved(text: str) -> list[str]:
    """Dotted names below face4d that a text mentions or imports and that do not exist."""
    names = set(re.findall(r"\bface4d(?:\.\w+)+\b(?!\.?[/*-])", text))
    for module, imported in re.findall(r"^\s*from (face4d[\w.]*) import ([\w, ]+)$", text, flags=re.MULTILINE):
        names |= {f"{module}.{word.strip()}" for word in imported.split(",")}
    found = []
    for dotted in sorted(names):
        try:
            pkgutil.resolve_name(dotted)
        except (ImportError, AttributeError):
            found.append(dotted)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_of_the_library_exist(page):
    assert unresolved(re.sub(r"face4d\.(?:mplstyle|gif|lock)\b", "", page.read_text())) == []


def test_a_wrong_name_is_found():
    text = "    from face4d.mesh.ply import read_ply, read_ply_fast\n`face4d.views.gif` and `face4d.mesh.obj.read_obj`"
    assert unresolved(text) == ["face4d.mesh.ply.read_ply_fast", "face4d.views.gif"]


def heading_anchors(path: Path) -> set[str]:
    """Addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and anchor not in heading_anchors(there)):
            broken.append(target)
    assert broken == []


def test_the_readme_is_short_and_begins_with_a_sentence():
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.split()) <= 1200
    first = text.split("\n\n")[1]
    assert re.fullmatch(r"face4d [a-z]+s [^.]+\.", first), first
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[:2] == ["Install", "Use"] and text.index("![") < text.index("## Install")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_no_longer_than_120(page):
    """Everywhere in the README; elsewhere but in tables and lines with a link that cannot be broken."""
    strict = page == REPOSITORY / "README.md"
    lines = enumerate(page.read_text().splitlines(), 1)
    breakable = [
        (number, line) for number, line in lines if strict or not (line.startswith("|") or re.search(r"\S{80}", line))
    ]
    assert [number for number, line in breakable if len(line) > 120] == []


PRIVATE = (
    r"map of the house|floor by floor|the judge|\b(?:rooms|told|disguised?|hollows?)\b"
    r"|\b(?:laid|lays|lay) (?:\w+ )?on\b"
)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_words_are_those_of_the_field(page):
    """Augmentation, occlusion, aligned to, conditioned on; not words that only this project would use for them."""
    text = re.sub(r"`[^`\n]+`", "", page.read_text())
    assert re.findall(PRIVATE, text, flags=re.IGNORECASE) == []


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")), ids=name)
def test_pages_are_reached_from_the_readme(page):
    assert f"(docs/{page.name})" in (REPOSITORY / "README.md").read_text()


def test_results_are_reached_from_their_index():
    index = (REPOSITORY / "benchmarks" / "results" / "README.md").read_text()
    pages = sorted((REPOSITORY / "benchmarks" / "results").glob("[!R]*.md"))
    assert len(pages) > 5 and [page.name for page in pages if f"({page.name})" not in index] == []


def test_the_architecture_names_every_module():
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    modules = [path for path in sorted((REPOSITORY / "face4d").rglob("*.py")) if not path.stem.startswith("__")]
    assert [name(path) for path in modules if not re.search(rf"\b{path.stem}\b", text)] == []
