import json
import threading
import time

import pytest

from face4d.errors import InputError
from face4d.generation.config import GeneratorConfig
from face4d.runtime.fields import described
from face4d.runtime.grid import Lease, expand, read_grid, run_side_by_side
from face4d.runtime.interrupt import deferred_interrupt, interrupted_when


SETTINGS = described(GeneratorConfig)


def test_expand_combines_all_lists_once():
    cells = expand([{"loss": ["l1", "l2"], "hidden_size": [8, 16]}, {"loss": ["l1"], "hidden_size": [16, 32]}])
    assert cells == [
        {"loss": "l1", "hidden_size": 8},
        {"loss": "l1", "hidden_size": 16},
        {"loss": "l2", "hidden_size": 8},
        {"loss": "l2", "hidden_size": 16},
        {"loss": "l1", "hidden_size": 32},
    ]


def test_grid_file_may_spell_flags_with_dashes(tmp_path):
    path = tmp_path / "g.json"
    path.write_text('[{"loss": ["l1"], "hidden-size": [8, 16]}, {"lr": [0.1]}]')
    assert read_grid(path, SETTINGS) == [{"loss": ["l1"], "hidden_size": [8, 16]}, {"lr": [0.1]}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"colour": ["red"]}', ["flags among loss, lr", "found colour"]),
        ('{"loss": "l1"}', ["list of values of loss", "'l1'"]),
        ('{"loss": []}', ["list of values of loss"]),
        ('{"loss": [["l1"]]}', ["loss[0] to be l1 or l2", "a list of 1"]),
        ('{"loss": ["../../x"]}', ["loss[0] to be l1 or l2", "'../../x'"]),
        ('{"lr": [NaN]}', ["lr[0] to be a finite number", "nan"]),
        ('{"lr": [0.1, -Infinity]}', ["lr[1] to be a finite number", "-inf"]),
        ('{"lr": [0]}', ["above 0", "found 0"]),
        ('{"lr": [true]}', ["lr[0] to be a finite number", "true"]),
        ('{"lr": ["1e-3"]}', ["lr[0] to be a finite number"]),
        ('{"lr": [1e400]}', ["inf"]),
        ('{"lr": [%s]}' % ("1" * 5000), ["an integer of 5000 digits"]),
        ('{"lr": [1], "lr": [2]}', ["the key 'lr' twice"]),
        ("null", ["JSON object", "none"]),
        ("[" * 100_000, ["nested at most"]),
        (json.dumps({"lr": [n / 1000 for n in range(1, 1002)]}), ["at most 1000 runs", "1001 combinations"]),
        (json.dumps([{"lr": [n / 1000 for n in range(1, 600)]}] * 2), ["at most 1000 runs", "1198 combinations"]),
        ("[]", ["at least one grid"]),
        ("[3]", ["JSON object", "3"]),
        ("{}", ["JSON object"]),
        ('{"loss": ["l1"', ["JSON file"]),
    ],
)
def test_bad_grid_files_are_named(tmp_path, text, words):
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_grid(path, {name: SETTINGS[name] for name in ("loss", "lr")})
    assert caught.value.path == str(path) and all(word in str(caught.value) for word in words)


def test_lease_has_one_holder_and_ends_what_runs_elsewhere(tmp_path):
    first, second = Lease(tmp_path / "running"), Lease(tmp_path / "running")
    first.take()
    assert first.held() and not second.held()
    with interrupted_when(lambda: not first.held()), deferred_interrupt() as interrupted:
        assert not interrupted()
        second.take()
        assert interrupted()
    first.release()  # no longer its own: nothing happens
    assert second.held()
    second.release()
    assert not second.held() and not list(tmp_path.iterdir())


def test_side_by_side_returns_in_order_and_stops_without_lease(tmp_path):
    lease = Lease(tmp_path / "running")
    results = run_side_by_side(lambda job: (job, lease.held()), [3, 1, 2], lease, workers=1, progress=lambda job: 0.5, quiet=True)
    assert results == [(3, True), (1, True), (2, True)] and not lease.held()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(lambda job: lease.release(), [1], lease, workers=1, progress=lambda job: 0.5, quiet=True)


def test_the_bar_moves_with_what_other_processes_write(tmp_path, capsys):
    done = threading.Event()

    def job(number: int) -> int:
        time.sleep(1.3)  # one look of the watcher
        done.set()
        return number

    run_side_by_side(job, [7], Lease(tmp_path / "running"), workers=1, progress=lambda job: 0.25, finished=1, description="runs")
    text = capsys.readouterr().err
    assert done.is_set() and "1.25 of 2 runs" in text and "2 of 2 runs" in text


def test_thesis_grids_have_forty_cells_each():
    from face4d.classification.config import THESIS_GRIDS as classifiers
    from face4d.generation.config import THESIS_GRIDS as generators

    for grids in (classifiers, generators):
        assert sum(len(expand([grids[name]])) for name in ("coma", "florence")) == 40
    assert len(expand([classifiers["coma"]])) == 24
    assert json.dumps(expand([generators["coma"]])[0]) == '{"loss": "l1", "lr": 0.0001, "hidden_size": 128}'
