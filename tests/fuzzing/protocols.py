"""Protocols of one's own for the benchmark: TOML files with keys and values of all kinds, and damaged ones."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

_WHOLE = {
    "title": '"mine"',
    "dataset": '"coma"',
    "frames": "41",
    "neutral": '"frame 0"',
    "test_subjects": '["S1"]',
    "classifier": '"default"',
    "seed": "27",
}
_KEYS = (*_WHOLE, "labels", "label_count", "subjects", "folds", "other")
_VALUES = (
    '"labels"', '"subjects"', '"none"', '"actor"', "41", "-1", "1e400", "nan", "true", "[]", '["S1", "S1"]',
    '["a_b", "a-b"]', '[1]', '""', '"../x"', '"\\u0000"', "{ a = 1 }", "0xffffffffffffffffffff", "[[[]]]", "x",
)  # fmt: skip


@st.composite
def _protocols(draw: DrawFn) -> bytes:
    fitting = dict(_WHOLE)
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=4)):
        fitting[key] = draw(st.sampled_from(_VALUES))
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=2)):
        fitting.pop(key, None)
    return "".join(f"{key} = {value}\n" for key, value in fitting.items()).encode()


def _read(path: Path) -> None:
    from face4d.evaluation.protocols import find_protocol

    protocol = find_protocol(str(path))
    assert protocol.frames >= 2 and (protocol.folds is None) == bool(protocol.test_subjects)
    names = (*(protocol.labels or ()), *protocol.test_subjects, protocol.dataset, protocol.name)
    assert all("/" not in name for name in names) and len(set(protocol.labels or ())) == len(protocol.labels or ())


READERS = (
    Reader(
        "protocol_toml", ".toml", mutated(_protocols(), (b"[a]", b'"""', b"= ", b"\0", b"["), most=2), _read,
        corpus=(b"[" * 5000,),
    ),
)  # fmt: skip
