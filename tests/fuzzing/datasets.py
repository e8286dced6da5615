"""Descriptions of one's own data sets: TOML files with keys and values of all kinds, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

_KEYS = (
    "meshes",
    "format",
    "frames",
    "landmarks",
    "labels",
    "test_subjects",
    "flame",
    "embedding",
    "actors",
    "neutral",
    "output",
    "other",
    '"a\\u001bb"',
)
_VALUES = (
    '"Scans"', '"ply"', '"obj"', "41", "1", "-1", "1e400", "nan", "true", "[]", '["S1", "S2"]', '["S1", 2]',
    '["a_b", "a-b"]', '""', '"../x"', '"/tmp/x"', '"\\u0000"', "{ a = 1 }", "1979-05-27", "0xffffffffffffffffffff",
    "'''\na'''", "[[[[[]]]]]", "x", json.dumps("x" * 5000),
)  # fmt: skip


@st.composite
def _descriptions(draw: DrawFn) -> bytes:
    fitting = {"meshes": '"Scans"', "format": '"ply"', "frames": "41", "test_subjects": '["S1"]'}
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=4)):
        fitting[key] = draw(st.sampled_from(_VALUES))
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=2)):
        fitting.pop(key, None)
    return "".join(f"{key} = {value}\n" for key, value in fitting.items()).encode()


def _read(path: Path) -> None:
    from face4d.datasets.own import read_dataset

    entry = read_dataset(path)
    assert entry.output.name == str(entry.output) and entry.output.name not in ("", ".", "..")
    assert all("/" not in name and "_" not in name for name in entry.labels or ()) and all(
        "/" not in name for name in entry.test_subjects
    )
    assert entry.landmarks is not None and all(getattr(meshes, "frames", 2) >= 2 for meshes in entry.meshes)


READERS = (
    Reader(
        "dataset_toml",
        ".toml",
        mutated(_descriptions(), (b"[meshes]", b'"""', b"= ", b"\0", b"["), most=2),
        _read,
        corpus=(b"[" * 5000,),
    ),
)
