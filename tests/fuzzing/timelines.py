"""Timelines: rows of expressions as CSV."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

_LABELS = ("Happy", "mouth-open")
_LAST = 200
_WORDS = (b"label", b"onset", b"strength", b"region", b"mouth+jaw", b"+", b"#", b'"', b",,,,", b"mouth_open", b"1e2",
          b"-0", b"1_0", b";", b"\xff\xfe", b"\0")  # fmt: skip


@st.composite
def _files(draw: DrawFn) -> bytes:
    """A timeline of a few rows, in any order of columns, with comments and empty lines."""
    columns = draw(st.permutations(("label", "onset", "apex", "release", "offset", "strength", "region")))
    lines = ["# a scene", ",".join(columns)]
    for _ in range(draw(st.integers(0, 5))):
        onset, apex, release, offset = sorted(draw(st.lists(st.integers(0, _LAST), min_size=4, max_size=4)))
        row = {"onset": onset, "apex": apex + 1, "release": release + 1, "offset": offset + 2}
        row |= {"label": draw(st.sampled_from(_LABELS)), "strength": draw(st.sampled_from(("", "1", "-0.5", "2")))}
        row["region"] = draw(st.sampled_from(("", "mouth", "mouth+jaw", '"brows+eyes"')))
        lines.append(",".join(str(row[name]) for name in columns))
    ends = draw(st.sampled_from(("\n", "\r\n")))
    return draw(st.sampled_from((b"", b"\xef\xbb\xbf"))) + ends.join([*lines, ""]).encode()


def _read(path: Path) -> None:
    from face4d.constants import LANDMARK_GROUPS
    from face4d.generation.timeline import MOST_STRENGTH, read_timeline

    expressions = read_timeline(path, _LABELS, _LAST)
    assert expressions
    for expression in expressions:
        onset, apex, release, offset, strength = expression.controls.array()
        assert 0 <= onset < apex <= release < offset <= _LAST and abs(strength) <= MOST_STRENGTH
        assert expression.label in _LABELS and set(expression.region) <= set(LANDMARK_GROUPS)


_SHORT = b"label,onset,strength,release,offset,region,apex\nHappy,0,1,1,2\n"
READERS = (Reader("timeline", ".csv", mutated(_files(), _WORDS), _read, corpus=(_SHORT,)),)
