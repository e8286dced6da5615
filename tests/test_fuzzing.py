"""Readers of files from outside: any content gives a sane value or one line, within a second (the property: tests/fuzzing)."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzzing import check, readers

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
