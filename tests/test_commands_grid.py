"""Grids: cells are commands that can be typed alone; they run side by side, stop together, go on, and end in a
table."""

import json
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from face4d.commands import grid
from face4d.commands.grid import expand, read_grid
from face4d.errors import InputError
from face4d.generation.config import GeneratorConfig
from face4d.runtime.fields import described
from face4d.runtime.lock import sole_writer
from face4d.runtime.run_folder import RunFolder
from tests.conftest import REPOSITORY, until, write_landmarks

SETTINGS = described(GeneratorConfig)
FLAGS = ["--labels", "all", "--epochs", "2", "--workers", "1", "--quiet"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with Florence landmarks of five subjects and a grid of two cells."""
    write_landmarks(
        tmp_path / "Landmark_dataset_flame_aligned", ("Happy", "Rage"), ("CH01", "CH02", "CH03", "CH04", "CH05"), 9
    )
    (tmp_path / "g.json").write_text('{"loss": ["l1", "l2"], "hidden-size": [8]}')
    (tmp_path / "one.json").write_text('{"hidden_size": [8]}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main(script, *arguments):
    runpy.run_path(str(REPOSITORY / script))["main"]([*FLAGS, *map(str, arguments)])


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def test_expand_combines_all_lists_once():
    cells = expand([{"loss": ["l1", "l2"], "hidden_size": [8, 16]}, {"loss": ["l1"], "hidden_size": [16, 32]}])
    assert cells == [
        {"loss": "l1", "hidden_size": 8},
        {"loss": "l1", "hidden_size": 16},
        {"loss": "l2", "hidden_size": 8},
        {"loss": "l2", "hidden_size": 16},
        {"loss": "l1", "hidden_size": 32},
    ]


def test_thesis_grids_have_forty_cells_each():
    from face4d.classification.config import THESIS_GRIDS as classifiers
    from face4d.generation.config import THESIS_GRIDS as generators

    for grids in (classifiers, generators):
        assert sum(len(expand([grids[name]])) for name in ("coma", "florence")) == 40
    assert len(expand([classifiers["coma"]])) == 24
    assert json.dumps(expand([generators["coma"]])[0]) == '{"loss": "l1", "lr": 0.0001, "hidden_size": 128}'


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


def test_grid_trains_holds_out_chooses_and_skips_what_is_finished(folder, capsys):
    main("main.py", "--grid", "g.json")
    runs, models = (folder / place / "generators_g_default_validation" for place in ("runs", "models"))
    record = json.loads((runs / "grid.json").read_text())
    assert record["held_out"] == {"florence": ["CH05"]} and record["select"] == "validation"
    scores = {row["run"]: row["validation/mm"] + row["validation/mm_std"] for row in record["runs"]}
    assert set(scores) == {"florence_default_l1_0.004_8", "florence_default_l2_0.004_8"}
    assert record["chosen"] == {"florence": min(scores, key=scores.get)}
    config = json.loads((runs / "florence_default_l1_0.004_8" / "config.json").read_text())
    assert config["config"]["select"] == "last" and config["sets"]["held_out"] == ["Happy_CH05", "Rage_CH05"]
    assert config["sets"]["train"] == ["Happy_CH03", "Happy_CH04", "Rage_CH03", "Rage_CH04"]
    told = capsys.readouterr().out
    assert f"chosen {record['chosen']['florence']}; on CH05, which did not train" in told
    assert "wrote models/generators_g_default_validation\n" in told
    assert {path.suffix for path in runs.glob("grid_florence.*")} == {".csv", ".md", ".tex"}

    # The command of a cell, copied from the table and typed elsewhere, trains the same weights.
    alone = folder / "alone"
    shutil.copytree(folder / "Landmark_dataset_flame_aligned", alone / "Landmark_dataset_flame_aligned")
    row = next(row for row in record["runs"] if row["run"] == "florence_default_l2_0.004_8")
    assert (
        row["command"] in (runs / "grid_florence.csv").read_text()
        and row["command"] not in (runs / "grid_florence.tex").read_text()
    )
    python, *words = shlex.split(row["command"])
    assert python.endswith("python") and {"--loss", "l2", "--hidden-size", "8"} <= set(words)
    subprocess.run([sys.executable, *words], cwd=alone, check=True, timeout=300, stdout=subprocess.DEVNULL)
    here, there = (
        weights(root / models.relative_to(folder) / "florence_default_l2_0.004_8.pt") for root in (folder, alone)
    )
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)

    before = {path: path.stat().st_mtime_ns for path in models.rglob("*.pt")}
    main("main.py", "--grid", "g.json")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    told = capsys.readouterr().out
    assert (
        "kept models/generators_g_default_validation\n" in told
        and "wrote runs/generators_g_default_validation\n" in told
    )
    (models / "florence_default_l2_0.004_8.pt").unlink()  # as if never finished
    main("main.py", "--grid", "g.json")
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if after[path] != before[path]} >= {"florence_default_l2_0.004_8.pt"}
    assert all(after[path] == before[path] for path in before if "l1" in path.name)


def test_classifier_grid_of_the_thesis_keeps_validation_weights(folder):
    (folder / "g.json").write_text('{"layers": [2], "hidden_size": [4]}')
    main("Classification/main.py", "--grid", "g.json", "--preset", "thesis", "--validate-every", "1")
    runs = folder / "runs" / "classifiers_g_thesis_validation"
    record = json.loads((runs / "grid.json").read_text())
    assert {row["layers"] for row in record["runs"]} == {2} and all(
        "validation/accuracy" in row for row in record["runs"]
    )
    assert (
        json.loads((runs / "classifier_florence_thesis_2_0.0001_4" / "config.json").read_text())["config"]["select"]
        == "validation"
    )


@pytest.fixture
def commands(folder, capsys):
    """The commands of a grid's cells, by run, as ``--dry-run`` tells them."""

    def tell(*arguments) -> dict[str, list[str]]:
        main("main.py", "--dry-run", *arguments)
        typed = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if " --run " in line]
        return {words[words.index("--run") + 1]: words for words in typed}

    return tell


def test_settings_outside_a_runs_name_are_told_in_it(folder, commands):
    (folder / "g.json").write_text('{"batch_size": [2, 3], "hidden_size": [8]}')
    found = commands("--grid", "g.json", "--select", "last")
    assert set(found) == {"florence_default_l2_0.004_8_batch_size_2", "florence_default_l2_0.004_8_batch_size_3"}


def test_thesis_grid_and_its_presets(folder, commands):
    thesis, default = commands("--grid", "thesis"), commands("--grid", "thesis", "--preset", "default")
    assert len(thesis) == 20 and "florence_thesis_l2_1e-05_2048" in thesis
    assert len(default) == 10 and "florence_default_l2_0.004_2048" in default  # its learning rate is its own
    assert not (folder / "runs").exists()


def test_a_cells_command_has_every_flag_that_was_given_and_no_other(folder, commands):
    (words,) = commands("--grid", "one.json", "--seed", 5, "--threads", 3, "--run", "mine", "--models", "m", "--lr",
        "1e-05", "--select", "last").values()  # fmt: skip
    given = {
        flag: words[words.index(flag) + 1]
        for flag in ("--seed", "--threads", "--models", "--runs", "--lr", "--select", "--dataset", "--labels")
    }
    assert given == {"--seed": "5", "--threads": "3", "--models": "m/mine", "--runs": "runs/mine", "--lr": "1e-05",
        "--select": "last", "--dataset": "florence", "--labels": "all"}  # fmt: skip
    assert (
        "--grid" not in words
        and "--workers" not in words
        and "--validation-subjects" not in words
        and {"--resume", "--quiet"} <= set(words)
    )


def test_a_run_is_chosen_on_the_test_set_with_nothing_held_out(folder, commands):
    same = ("--grid", "one.json", "--select", "test")
    (thesis,), (default,) = commands(*same, "--preset", "thesis").values(), commands(*same).values()
    assert thesis[thesis.index("--select") + 1] == "test" and default[default.index("--select") + 1] == "last"
    assert "--validation-subjects" not in thesis + default and f"{Path('runs', 'generators_one_thesis_test')}" in thesis


def test_overwrite_begins_anew_and_other_settings_are_refused(folder, commands):
    same = ("--grid", "one.json", "--select", "last")
    run = folder / "runs" / "generators_one_default_last" / "florence_default_l2_0.004_8"
    main("main.py", *same)
    with pytest.raises(InputError, match="epochs = 3.*found epochs = 2"):
        main("main.py", *same, "--epochs", 3)

    # Records of other versions are compared by what both have: what came later was as its default says.
    record = json.loads((run / "config.json").read_text())
    del record["config"]["precision"]
    record["config"]["unheard_of"] = 1
    (run / "config.json").write_text(json.dumps(record))
    assert len(commands(*same)) == 1
    with pytest.raises(InputError, match="precision = bf16 .*, found precision = 'fp32'"):
        commands(*same, "--precision", "bf16")

    main("main.py", *same, "--epochs", 3, "--overwrite")
    rows = (run / "curves.csv").read_text().splitlines()[1:]
    assert list(dict.fromkeys(row.split(",")[0] for row in rows)) == ["1", "2", "3"]


def test_a_cell_that_fails_does_not_stop_the_others(folder, capsys):
    models = folder / "models" / "generators_g_default_last"
    models.mkdir(parents=True)
    (models / "florence_default_l1_0.004_8.last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(
        InputError, match="florence_default_l1_0.004_8: expected a run that ends well, found .*last.pt: expected"
    ):
        main("main.py", "--grid", "g.json", "--select", "last")
    rows = (folder / "runs" / "generators_g_default_last" / "grid_florence.csv").read_text().splitlines()
    assert "last.pt: expected" in rows[1] and rows[2].startswith("florence,l2,8,") and "expected" not in rows[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "g.json", "--loss", "l1"], ["--loss", "g.json"]),
        (
            ["--grid", "g.json", "--select", "test", "--validation-subjects", "CH03"],
            ["--validation-subjects", "--select test"],
        ),
        (["--grid", "g.json", "--validation-subjects", "CH77"], ["CH77", "CH03, CH04, CH05"]),
        (["--grid", "g.json", "--actors", "elsewhere"], ["--actors", "--dataset"]),
        (["--grid", "g.json", "--landmarks", "elsewhere"], ["elsewhere", "no such folder"]),
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"loss": ["l3"]}', r"expected loss\[0\] to be l1 or l2, found 'l3'"),
        ('{"hidden-size": [9000]}', "an integer from 1 to 8192"),
    ],
)
def test_values_are_checked_as_flags_are(folder, text, words):
    (folder / "g.json").write_text(text)
    with pytest.raises(InputError, match=f"g.json: .*{words}"):
        main("main.py", "--grid", "g.json")


def processes_of(folder):
    """Processes that work there."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(place / "cwd")) == folder and b"--run" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def test_each_cell_sees_one_gpu(folder, monkeypatch):
    """Without one here: what the programs are given."""
    given = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        grid, "run_side_by_side", lambda programs, lease, **how: given.append((programs, how)) or [None] * 3
    )
    (folder / "g.json").write_text('{"hidden_size": [8, 32, 16]}')
    flags = ["--labels", "all", "--epochs", "2", "--quiet", "--grid", "g.json", "--select", "last"]
    script = runpy.run_path(str(REPOSITORY / "main.py"))["main"]
    for visible, expected in ((None, ["0", "1", "0"]), ("3,7,5", ["3", "7", "5"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible) if visible else monkeypatch.delenv(
            "CUDA_VISIBLE_DEVICES", False
        )
        script(flags)
        programs, how = given.pop()
        assert [program.environment for program in programs] == [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in expected]
        sizes = [program.words[program.words.index("--hidden-size") + 1] for program in programs]
        assert sizes == ["32", "16", "8"] and how["workers"] == 4 * len(set(expected))  # the longest first
    script([*flags, "--device", "cpu", "--workers", "3"])
    programs, how = given.pop()
    assert [program.environment for program in programs] == [{}, {}, {}] and how["workers"] == 3


def test_a_second_command_is_refused(folder):
    with sole_writer(folder / "runs" / "generators_one_default_last"):
        command = [*typed("main.py"), "--grid", "one.json", "--select", "last"]
        second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert second.returncode == 2 and "no other run writing here" in second.stderr


def typed(script):
    return [sys.executable, str(REPOSITORY / script), *FLAGS]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_grid_that_is_killed_or_stopped_leaves_checkpoints_and_goes_on(folder):
    flags = (
        "--grid",
        "g.json",
        "--select",
        "last",
        "--checkpoint-seconds",
        "1000",
        "--workers",
        "2",
        "--epochs",
        "100000",
    )
    models, runs = (folder / place / "generators_g_default_last" for place in ("models", "runs"))
    cells = [RunFolder(runs / f"florence_default_{loss}_0.004_8") for loss in ("l1", "l2")]
    epochs = [0, 0]  # of each cell so far
    for end, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        with open(folder / "said", "w") as said:
            process = subprocess.Popen([*typed("main.py"), *flags], stdout=said, stderr=said)
        until(lambda before=epochs: all(cell.last_epoch() > last + 3 for cell, last in zip(cells, before)))
        process.send_signal(end)
        assert process.wait(60) == code
        until(lambda: not processes_of(folder))  # each saved the epoch it was in
        assert len(list(models.glob("*.pt"))) == len(list(models.glob("*.last.pt"))) == 2
        epochs = [cell.last_epoch() for cell in cells]
    assert "the same command goes on" in (folder / "said").read_text()
    for cell, last in zip(cells, epochs):
        rows = cell.curves_path.read_text().splitlines()[1:]
        assert list(dict.fromkeys(int(row.split(",")[0]) for row in rows)) == list(range(1, last + 1))
