"""Programs side by side: their one-line errors, Ctrl-C, one holder of the right to run them."""

import threading

import pytest

from face4d.runtime.programs import Lease, Program, run_program, run_side_by_side
from tests.conftest import until


@pytest.fixture
def lease(tmp_path):
    return Lease(tmp_path / "running")


def program(code: str, **environment: str) -> Program:
    return Program(("-c", code), environment)


def test_lease_has_one_holder(tmp_path):
    first, second = Lease(tmp_path / "running"), Lease(tmp_path / "running")
    first.take()
    assert first.held() and not second.held()
    second.take()
    first.release()  # no longer its own: nothing happens
    assert second.held() and not first.held()
    second.release()
    assert not second.held() and not list(tmp_path.iterdir())


TOLD = "import sys; print('a note\\nerror: x.npy: expected this, found that', file=sys.stderr); sys.exit(2)"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('well')", None),
        (TOLD, "x.npy: expected this, found that"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os, sys; sys.exit(int(os.environ['NUMBER']))", "exit code 7"),
    ],
)
def test_a_program_that_fails_is_one_line(lease, code, problem):
    lease.take()
    assert run_program(program(code, NUMBER="7"), lease) == problem


def test_ctrl_c_is_pressed_for_a_program_when_the_lease_is_gone(lease, tmp_path):
    sign = tmp_path / "sign"
    code = f"""
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have told its background jobs to ignore
sign = pathlib.Path({str(sign)!r})
try:
    sign.touch()
    time.sleep(60)
except KeyboardInterrupt:
    sign.unlink()
"""
    lease.take()
    end = threading.Thread(target=lambda: (until(sign.exists), lease.release()))
    end.start()
    assert run_program(program(code), lease) is None and not sign.exists()
    end.join()
    assert run_program(program("1 / 0"), lease) is None  # not begun at all


@pytest.mark.parametrize("workers", [1, 3])
def test_side_by_side_returns_in_order_and_gives_the_lease_back(lease, workers):
    programs = [
        program(f"import time; time.sleep({seconds}); raise SystemExit({number})")
        for number, seconds in ((3, 0.3), (1, 0), (0, 0))
    ]
    results = run_side_by_side(
        programs, lease, workers=workers, progress=lambda number: 0.5, description="", quiet=True
    )
    assert results == ["exit code 3", "exit code 1", None] and not lease.held()


def test_whoever_takes_the_lease_stops_the_programs(lease):
    programs = [program("import time; time.sleep(60)")]
    other = Lease(lease.path)
    end = threading.Thread(target=lambda: (until(lease.held), other.take()))
    end.start()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(programs, lease, workers=1, progress=lambda number: 0.5, description="", quiet=True)
    end.join()
    assert other.held()


def test_the_bar_moves_with_what_programs_write(lease, capsys):
    programs = [program("import time; time.sleep(1.5)")]
    run_side_by_side(programs, lease, workers=1, progress=lambda number: 0.25, description="runs", finished=1)
    text = capsys.readouterr().err
    assert "1.25 of 2 runs" in text and "2 of 2 runs" in text
