import math

import pytest

from face4d.errors import InputError
from face4d.runtime.run_folder import RunFolder


def write(run: RunFolder, first: int, last: int, value: float) -> None:
    run.open_curves(first)
    for epoch in range(first, last + 1):
        run.scalars({"train/loss": value * epoch, "test/mm": 1 / 3}, epoch)
    run.close()


def test_curves_are_read_back_exactly(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.read_curves() == {} and run.last_epoch() == 0
    write(run, 1, 3, 0.1)
    assert run.read_curves() == {"train/loss": ([1, 2, 3], [0.1, 0.2, 0.1 * 3]), "test/mm": ([1, 2, 3], [1 / 3] * 3)}
    assert run.last_epoch() == 3


def test_rows_at_or_after_the_resumed_epoch_are_dropped(tmp_path):
    run = RunFolder(tmp_path / "run")
    write(run, 1, 5, 1.0)
    write(run, 4, 6, 2.0)
    assert run.read_curves()["train/loss"] == ([1, 2, 3, 4, 5, 6], [1.0, 2.0, 3.0, 8.0, 10.0, 12.0])
    write(run, 1, 2, 7.0)  # begun anew
    assert run.read_curves()["train/loss"] == ([1, 2], [7.0, 14.0])


def test_points_of_a_resumed_run_are_in_tensorboard_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = RunFolder(tmp_path / "run")
    write(run, 1, 5, 1.0)
    write(run, 4, 6, 2.0)  # resumed after epoch 3
    (events,) = run.path.glob("events.out.tfevents.*")
    curves = EventAccumulator(str(events)).Reload()
    assert [(point.step, point.value) for point in curves.Scalars("train/loss")] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 8),
        (5, 10),
        (6, 12),
    ]
    write(run, 1, 2, 7.0)  # killed before its first checkpoint, begun anew
    (events,) = run.path.glob("events.out.tfevents.*")
    assert [point.step for point in EventAccumulator(str(events)).Reload().Scalars("test/mm")] == [1, 2]


def test_a_line_cut_short_by_a_kill_is_no_row(tmp_path):
    run = RunFolder(tmp_path / "run")
    write(run, 1, 2, 1.0)
    with open(run.curves_path, "a") as file:
        file.write("3,loss/tr")
    assert run.read_curves()["train/loss"] == ([1, 2], [1.0, 2.0]) and run.last_epoch() == 2
    write(run, 3, 3, 1.0)
    assert run.read_curves()["train/loss"] == ([1, 2, 3], [1.0, 2.0, 3.0])


def test_damaged_curves_are_named_and_infinities_survive(tmp_path):
    run = RunFolder(tmp_path / "run")
    write(run, 1, 1, math.inf)
    assert run.read_curves()["train/loss"] == ([1], [math.inf])
    run.curves_path.write_text("epoch,tag,value\n1,train/loss,much\n")
    with pytest.raises(InputError, match="line 2.*much"):
        run.read_curves()


def test_clear_removes_an_earlier_run_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path / "run")
    write(run, 1, 2, 1.0)
    run.write_metrics({"mm": 1})
    (run.path / "notes.txt").write_text("mine")
    run.clear()
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]
