"""Readers of files from outside: any content gives a sane value or one line, within a second (the property:
tests/fuzzing)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from face4d.errors import InputError
from tests.fuzzing import Reader, check, readers
from tests.fuzzing.campaign import campaign

READERS = readers()


@pytest.mark.parametrize("name", READERS)
def test_two_hundred_files_made_and_damaged_in_code(name, tmp_path):
    reader, path = READERS[name], READERS[name].path(tmp_path)

    @settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(reader.files)
    def examples(content: bytes) -> None:
        path.write_bytes(content)
        check(reader, path)

    examples()


CORPUS = [(name, number) for name, reader in READERS.items() for number in range(len(reader.corpus))]


@pytest.mark.parametrize(("name", "number"), CORPUS)
def test_what_was_once_read_wrongly(name, number, tmp_path):
    reader, path = READERS[name], READERS[name].path(tmp_path)
    path.write_bytes(reader.corpus[number])
    check(reader, path)


def _unreliable(path: Path) -> None:
    content = path.read_bytes()
    if b"\7" in content:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"\1" in content:
        raise KeyError("one")


@pytest.mark.parametrize(("content", "kind"), [(b"a\7", "the process ends by SIGKILL"), (b"\1b", "KeyError")])
def test_a_campaign_survives_crashes_and_makes_its_findings_short(content, kind):
    result = campaign(Reader("unreliable", ".bin", st.just(content), _unreliable), 2, first_seed=1)
    findings = {kind.split(" at ")[0]: bytes.fromhex(content) for kind, content in result["findings"].items()}
    assert findings[kind] == content.strip(b"ab") and result["executions"] >= 2


def test_an_error_has_to_be_one_printable_line(tmp_path):
    class Loud(InputError):
        def __str__(self) -> str:
            return "a.bin: \x1b[31mred"

    def read(path: Path) -> None:
        raise Loud(path, "", "")

    (tmp_path / "input.bin").write_bytes(b"")
    with pytest.raises(AssertionError, match="not one printable line"):
        check(Reader("loud", ".bin", st.binary(), read), tmp_path / "input.bin")


def test_the_command_tells_its_numbers(tmp_path):
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz.py"
    command = [
        sys.executable,
        str(script),
        "--reader",
        "ply",
        "--executions",
        "200",
        "--seed",
        "1",
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| ply    | 200" in done.stdout and (tmp_path / "out" / "findings.json").is_file()
