"""Progress in a batch job's log."""

import sys

import pytest
from tqdm import tqdm

from face4d.runtime import progress
from face4d.runtime.progress import track


@pytest.fixture
def seconds(monkeypatch):
    """A clock that goes one second further each time it is read."""
    clock = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))


def test_a_line_per_tenth_without_a_terminal(capsys, seconds):
    assert list(track("generating", range(200), unit="sequence")) == list(range(200))
    lines = capsys.readouterr().err
    assert "\r" not in lines and "\x1b" not in lines
    lines = lines.splitlines()
    assert (
        len(lines) == 10
        and lines[0].startswith("generating: 10 %, 20 of 200 sequences, ")
        and "100 %, 200 of 200" in lines[-1]
    )


def test_short_work_is_one_line(capsys):
    with track("fit", total=50, unit="step") as bar:
        for _ in range(50):
            bar.set_postfix(loss="0.1", refresh=False)
            bar.update()
        bar.close()
    assert capsys.readouterr().err == "fit: 100 %, 50 of 50 steps, 0 s, loss 0.1\n"


def test_a_continued_run_begins_where_it_stopped(capsys, seconds):
    with track("run", total=10, initial=8, unit="epoch") as bar:
        bar.update(2)
    told = capsys.readouterr()
    assert told.err.startswith("run: 100 %, 10 of 10 epochs") and told.err.count("\n") == 1 and told.out == ""


def test_work_of_unknown_length_and_none_at_all(capsys):
    list(track("encoding", (number for number in range(7)), unit="frame"))
    list(track("converting", [], unit="item"))
    assert capsys.readouterr().err == "encoding: 7 frames, 0 s\n"


def test_quiet_says_nothing(capsys):
    with track("generating", range(20), unit="sequence", quiet=True) as bar:
        list(bar)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_an_interrupted_work_does_not_say_that_it_is_done(capsys):
    with pytest.raises(KeyboardInterrupt), track("fit", total=4, unit="step") as bar:
        bar.update()
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with track("generating", range(3), unit="sequence") as bar:
        assert isinstance(bar, tqdm)
