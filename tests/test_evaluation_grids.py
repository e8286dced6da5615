"""Grids as the scripts run them, and the choice of a run."""

import json
import runpy

import pytest

from face4d.errors import InputError
from face4d.evaluation.grids import CONTESTS, choose_runs
from face4d.generation import train as generation_train
from tests.conftest import REPOSITORY, write_landmarks

GRID = {"loss": ["l1", "l2"], "hidden-size": [8]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with Florence landmarks of five subjects and a grid of two cells."""
    write_landmarks(tmp_path / "Landmark_dataset_flame_aligned", ("Happy", "Rage"), ("CH01", "CH02", "CH03", "CH04", "CH05"), 9)
    (tmp_path / "g.json").write_text(json.dumps(GRID))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main(script, *arguments):
    runpy.run_path(str(REPOSITORY / script))["main"](
        ["--labels", "all", "--epochs", "2", "--workers", "1", "--quiet", *map(str, arguments)]
    )


def test_grid_trains_holds_out_chooses_and_skips_what_is_finished(folder, capsys):
    main("main.py", "--grid", "g.json")
    runs = folder / "runs" / "generators_g_default_validation"
    record = json.loads((runs / "grid.json").read_text())
    assert record["held_out"] == {"florence": ["CH05"]} and record["select"] == "validation"
    scores = {row["run"]: row["validation_mm"] + row["validation_mm_std"] for row in record["runs"]}
    assert set(scores) == {"florence_default_l1_0.004_8", "florence_default_l2_0.004_8"}
    assert record["chosen"] == {"florence": min(scores, key=scores.get)}
    config = json.loads((runs / "florence_default_l1_0.004_8" / "config.json").read_text())
    assert config["config"]["select"] == "last" and config["sets"]["held_out"] == ["Happy_CH05", "Rage_CH05"]
    assert config["sets"]["train"] == ["Happy_CH03", "Happy_CH04", "Rage_CH03", "Rage_CH04"]
    told = capsys.readouterr().out
    assert f"chosen {record['chosen']['florence']}; on CH05, which did not train" in told
    assert "wrote models/generators_g_default_validation\n" in told
    assert {path.suffix for path in runs.glob("grid_florence.*")} == {".csv", ".md", ".tex"}

    before = {path: path.stat().st_mtime_ns for path in (folder / "models").rglob("*.pt")}
    main("main.py", "--grid", "g.json")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    told = capsys.readouterr().out
    assert "kept models/generators_g_default_validation\n" in told and "wrote runs/generators_g_default_validation\n" in told
    (folder / "models" / "generators_g_default_validation" / "florence_default_l2_0.004_8.pt").unlink()  # as if never finished
    main("main.py", "--grid", "g.json")
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if after[path] != before[path]} >= {"florence_default_l2_0.004_8.pt"}
    assert all(after[path] == before[path] for path in before if "l1" in path.name)


def test_select_last_and_test_hold_nothing_out(folder):
    for select, chosen, kept in (("last", 0, "last"), ("test", 1, "test")):
        main("main.py", "--grid", "g.json", "--preset", "thesis", "--select", select, "--validate-every", "1")
        runs = folder / "runs" / f"generators_g_thesis_{select}"
        record = json.loads((runs / "grid.json").read_text())
        assert len(record["chosen"]) == chosen and record["held_out"] == {"florence": []}
        config = json.loads((runs / "florence_thesis_l1_0.0001_8" / "config.json").read_text())
        assert config["config"]["select"] == kept and len(config["sets"]["train"]) == 6


def test_classifier_grid_of_the_thesis_keeps_validation_weights(folder):
    (folder / "g.json").write_text('{"layers": [1, 2], "hidden_size": [4]}')
    main("Classification/main.py", "--grid", "g.json", "--preset", "thesis", "--validate-every", "1")
    runs = folder / "runs" / "classifiers_g_thesis_validation"
    record = json.loads((runs / "grid.json").read_text())
    assert {row["layers"] for row in record["runs"]} == {1, 2} and all("validation_accuracy" in row for row in record["runs"])
    assert json.loads((runs / "classifier_florence_thesis_1_0.0001_4" / "config.json").read_text())["config"]["select"] == "validation"


def test_settings_outside_a_runs_name_are_told_in_it(folder):
    (folder / "g.json").write_text('{"batch_size": [2, 3], "hidden_size": [8]}')
    main("main.py", "--grid", "g.json", "--select", "last")
    names = {path.name for path in (folder / "runs" / "generators_g_default_last").iterdir() if path.is_dir()}
    assert names == {"florence_default_l2_0.004_8_batch_size_2", "florence_default_l2_0.004_8_batch_size_3"}


def test_thesis_grid_and_its_presets(folder, capsys):
    def names(*arguments):
        main("main.py", "--grid", "thesis", "--dry-run", *arguments)
        return [line.split()[0] for line in capsys.readouterr().out.splitlines() if "florence_" in line]

    thesis, default = names(), names("--preset", "default")
    assert len(thesis) == 20 and "florence_thesis_l2_1e-05_2048" in thesis
    assert len(default) == 10 and "florence_default_l2_0.004_2048" in default  # its learning rate is its own
    assert not (folder / "runs").exists()


def test_overwrite_begins_anew_and_other_settings_are_refused(folder):
    main("main.py", "--grid", "g.json", "--select", "last")
    with pytest.raises(InputError, match="epochs = 3.*found epochs = 2"):
        main("main.py", "--grid", "g.json", "--select", "last", "--epochs", 3)
    main("main.py", "--grid", "g.json", "--select", "last", "--epochs", 3, "--overwrite")
    curves = (folder / "runs" / "generators_g_default_last" / "florence_default_l1_0.004_8" / "curves.csv").read_text()
    assert [line.split(",")[0] for line in curves.splitlines() if "loss/train" in line] == ["1", "2", "3"]


def test_a_cell_that_fails_does_not_stop_the_others(folder, capsys, monkeypatch):
    trained = generation_train.train

    def diverging(split, config, run):
        if config.lr == 1:
            raise InputError(run.folder.path, "a finite training loss", "nan in epoch 1 (a lower --lr?)")
        return trained(split, config, run)

    monkeypatch.setattr(generation_train, "train", diverging)
    (folder / "g.json").write_text('{"lr": [1, 0.001], "hidden_size": [8]}')
    with pytest.raises(InputError, match="finite training loss"):
        main("main.py", "--grid", "g.json", "--preset", "thesis", "--select", "last")
    table = (folder / "runs" / "generators_g_thesis_last" / "grid_florence.csv").read_text()
    assert "a lower --lr" in table and ",0.001,8," in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "g.json", "--loss", "l1"], ["--loss", "g.json"]),
        (["--grid", "g.json", "--select", "test", "--validation-subjects", "CH03"], ["--validation-subjects", "--select test"]),
        (["--grid", "g.json", "--validation-subjects", "CH77"], ["CH77", "CH03, CH04, CH05"]),
        (["--grid", "g.json", "--landmarks", "elsewhere"], ["--landmarks", "--dataset"]),
        (["--grid", "thesis", "--dataset", "coma"], ["Landmark_dataset_flame_aligned_coma"]),
        ([], ["--workers", "--grid"]),  # one run knows no workers
    ],
)
def test_bad_combinations_are_one_line(folder, arguments, words):
    with pytest.raises(InputError) as caught:
        main("main.py", *arguments)
    assert all(word in str(caught.value) for word in words)
    assert not (folder / "runs").exists()


def test_no_landmark_folder_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="none of coma .*, florence"):
        main("main.py", "--grid", "thesis")


def test_values_are_checked_as_flags_are(folder):
    (folder / "g.json").write_text('{"loss": ["l3"]}')
    with pytest.raises(InputError, match=r"g.json: expected loss\[0\] to be l1 or l2, found 'l3'"):
        main("main.py", "--grid", "g.json")


class Finished:
    """A cell with metrics."""

    def __init__(self, dataset, name, metrics):
        self.dataset, self.name, self._metrics = dataset, name, metrics

    def metrics(self):
        return self._metrics


def test_choice_is_mean_plus_std_or_accuracy_then_loss():
    cells = [
        Finished("florence", "a", {"mm": 1.0, "mm_std": 2.0, "validation_mm": 1.0, "validation_mm_std": 1.0}),
        Finished("florence", "b", {"mm": 1.1, "mm_std": 1.0, "validation_mm": 1.1, "validation_mm_std": 1.0}),
        Finished("florence", "unfinished", None),
        Finished("coma", "c", {"mm": 9.0, "mm_std": 9.0, "validation_mm": 9.0, "validation_mm_std": 9.0}),
    ]
    assert choose_runs(CONTESTS["generators"], cells, "validation") == {"florence": "a", "coma": "c"}
    assert choose_runs(CONTESTS["generators"], cells, "test") == {"florence": "b", "coma": "c"}
    assert choose_runs(CONTESTS["generators"], cells, "last") == {}
    cells = [Finished("coma", name, {"test_accuracy": a, "test_loss": b}) for name, a, b in (("a", 0.5, 0.1), ("b", 0.9, 0.4), ("c", 0.9, 0.3))]
    assert choose_runs(CONTESTS["classifiers"], cells, "test") == {"coma": "c"}
