"""What a release states in several files agrees: its version, its tools, the Pythons it is tested on."""

import re

import face4d
from tests.conftest import REPOSITORY


def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def test_one_version_and_date():
    version, date = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", text("CHANGELOG.md"), re.MULTILINE).groups()
    assert version == face4d.__version__
    citation = dict(re.findall(r"^(version|date-released): \"?([^\"\n]+)", text("CITATION.cff"), re.MULTILINE))
    assert citation == {"version": version, "date-released": date}


def test_commits_are_checked_by_the_release_of_ruff_that_checks_the_tree():
    wanted = re.search(r'"ruff==([\d.]+)\.\*"', text("pyproject.toml"))[1]
    used = re.search(r"ruff-pre-commit\n +rev: v(\S+)", text(".pre-commit-config.yaml"))[1]
    assert used.startswith(f"{wanted}.")


def test_continuous_integration_begins_with_the_oldest_python():
    oldest = re.search(r'requires-python = ">=([\d.]+)"', text("pyproject.toml"))[1]
    assert re.search(r'python: \["([\d.]+)"', text(".github/workflows/test.yml"))[1] == oldest
    assert f'python_version = "{oldest}"' in text("pyproject.toml")
    assert f'target-version = "py{oldest.replace(".", "")}"' in text("pyproject.toml")
