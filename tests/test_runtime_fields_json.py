"""JSON from files: bounded, UTF-8, every field checked."""

import pytest

from face4d.errors import InputError
from face4d.runtime.fields import integer, list_of, mapping, name, number, optional, plain, read_json, record, text

RATES = list_of(number(0, above=True))
FIELDS = record(
    {"name": name, "count": integer(0, 5), "rates": RATES, "more": optional(mapping(plain)), "path": optional(text)}
)


def read(tmp_path, content: bytes):
    (tmp_path / "x.json").write_bytes(content)
    return read_json(tmp_path / "x.json", FIELDS)


def test_fields_come_back(tmp_path):
    wanted = {
        "name": "Łucja_2",
        "count": 5,
        "rates": [1, 0.5],
        "more": {"a": [None, True, {"b": float("inf")}]},
        "other": "kept",
    }
    content = (
        '{"name": "Łucja_2", "count": 5, "rates": [1, 0.5], "more": {"a": [null, true, {"b": Infinity}]}, '
        '"other": "kept"}'.encode()
    )
    assert read(tmp_path, content) == read(tmp_path, b"\xef\xbb\xbf" + content) == wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a JSON file, found Expecting value"),
        (b"[]", "a dictionary, found a list of 0"),
        ("{}".encode("utf-16"), "in UTF-8, found byte 0"),
        (b'{"name": "a"}', "count to be there"),
        (b'{"name": "../a", "count": 1, "rates": []}', r"name to be a name .*found '../a'"),
        (b'{"name": "", "count": 1, "rates": []}', "name to be a name"),
        (b'{"name": "a", "count": true, "rates": []}', "count to be an integer from 0 to 5, found true"),
        (b'{"name": "a", "count": 1.0, "rates": []}', "count to be an integer from 0 to 5, found 1"),
        (b'{"name": "a", "count": 6, "rates": []}', "found 6"),
        (b'{"name": "a", "count": 1, "rates": {}}', "rates to be a list of 0 to 1000000, found a dictionary"),
        (b'{"name": "a", "count": 1, "rates": [1, NaN]}', r"rates\[1\] to be a finite number, above 0, found nan"),
        (b'{"name": "a", "count": 1, "rates": [0]}', r"rates\[0\] .*found 0"),
        (b'{"name": "a", "count": 1, "rates": [], "more": [1]}', "more to be a dictionary, found a list of 1"),
        (b'{"name": "a", "count": 1, "rates": [], "path": "a\\u001b[1m"}', "path to be text"),
        (b'{"name": "a", "count": 1, "rates": [], "x\\ny": 1}', "a key to be text"),
        (b'{"name": "a", "name": "b", "count": 1, "rates": []}', "the key 'name' twice"),
        (b'{"count": 111111111111111111111}', "an integer of 21 digits"),
        (
            b'{"name": "a", "count": 1, "rates": [], "more": {"a":' + 40 * b"[" + 40 * b"]" + b"}}",
            "more.a to be nested at most 32 times",
        ),
        (b'{"a":' * 50_000, "nested at most 32 times"),
        (b" " * (5 << 20), "at most 4 MB, found 5 MB"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, words):
    with pytest.raises(InputError, match=words) as error:
        read(tmp_path, content)
    assert error.value.path == str(tmp_path / "x.json") and str(error.value).isprintable()


def test_what_is_no_file_is_named(tmp_path):
    for path, words in ((tmp_path, "a folder"), (tmp_path / "none.json", "no such file")):
        with pytest.raises(InputError, match=words):
            read_json(path)
