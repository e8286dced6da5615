"""Numbers in sentences."""

import pytest

from face4d.runtime.progress import compared, counted, share


def test_one_of_a_thing_is_not_plural():
    assert [counted(number, "scored set") for number in (0, 1, 2)] == ["0 scored sets", "1 scored set", "2 scored sets"]


def test_what_was_not_found_is_no_infinite_share():
    assert [share(value) for value in (0.05, float("inf"), float("nan"))] == ["5.00 %", "none found", "none found"]


@pytest.mark.parametrize(
    ("own", "other", "words"),
    [(1, 3, "3.0 times better"), (3, 1, "3.0 times worse"), (1, 1.04, "no better"), (0, 1, "far better"),
     (1, 0, "far worse"), (0, 0, "no better"), (float("inf"), 1, "no better")],
)  # fmt: skip
def test_worse_is_not_called_better(own, other, words):
    assert compared(own, other) == words
