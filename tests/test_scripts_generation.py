"""main.py and test.py as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import REPOSITORY, toy_sequence

TRAIN = ("--dataset", "florence", "--labels", "all", "--hidden-size", 8, "--epochs", 3, "--run", "x", "--landmarks")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with landmarks and a trained generator; copy it before changing it."""
    from face4d.datasets.landmark_set import load_split
    from face4d.generation.config import PRESETS
    from face4d.runtime.run_folder import Run
    from tests.conftest import load_script, write_landmarks

    folder = tmp_path_factory.mktemp("trained")
    landmarks = write_landmarks(folder / "landmarks", ("Happy", "Rage", "Scream"), ("CH01", "CH03", "CH04"), 13)
    split = load_split(landmarks, test_subjects=("CH01",))
    source = {"dataset": "florence", "landmarks": "landmarks", "test_subjects": ["CH01"]}
    config = PRESETS["default"].with_settings({"hidden_size": 8, "epochs": 3})
    load_script("main.py").train(
        replace(split, source=source), config, Run("x", folder / "models", folder / "runs", quiet=True)
    )
    np.save(folder / "me.npy", toy_sequence(0, 8, 3)[0])
    return folder


@pytest.fixture
def workplace(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    return tmp_path / "w"


def test_training_script_writes_checkpoints_and_records(landmark_folder, tmp_path, run_script, run_here):
    result = run_script("main.py", *TRAIN, landmark_folder, cwd=tmp_path)
    assert result.stdout.splitlines()[-2:] == ["wrote models/x.pt", "wrote runs/x"]
    assert (tmp_path / "models" / "x.last.pt").is_file()
    metrics = json.loads((tmp_path / "runs" / "x" / "metrics.json").read_text())
    assert metrics["epoch"] == 3 and metrics["test/mse"] > 0 and metrics["seconds"] > 0
    again = run_here("main.py", *TRAIN, landmark_folder, cwd=tmp_path)
    assert again.returncode == 2 and "--overwrite" in again.stderr
    resumed = run_here("main.py", *TRAIN, landmark_folder, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0 and resumed.stdout.splitlines()[-2:] == ["kept models/x.pt", "kept runs/x"]
    assert json.loads((tmp_path / "runs" / "x" / "metrics.json").read_text())["test/mse"] == metrics["test/mse"], (
        resumed.stderr
    )


def test_a_run_cannot_go_on_and_begin_anew(workplace, run_here):
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*") if path.is_file()}
    result = run_here("main.py", *TRAIN, "landmarks", "--resume", "--overwrite", cwd=workplace)
    assert result.returncode == 2 and result.stderr.startswith("error: --overwrite: expected it or --resume")
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("folder", ["models", "runs"])
def test_a_run_that_another_command_trains_is_left_alone(workplace, run_here, folder):
    code = (
        "import sys, time\nfrom face4d.runtime.lock import sole_writer\nwith sole_writer(sys.argv[1], "
        "'x'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(workplace / folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*") if path.is_file()}
        for flag in ("--overwrite", "--resume"):
            result = run_here("main.py", *TRAIN, "landmarks", flag, cwd=workplace)
            assert (
                result.returncode == 2
                and f"(process {holder.pid} on " in result.stderr
                and "no other run writing here" in result.stderr
            )
        other = run_here("main.py", *TRAIN[:-2], "y", "--landmarks", "landmarks", "--quiet", cwd=workplace)
        assert other.returncode == 0, other.stderr
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    finally:
        holder.kill()
        holder.wait()
    assert run_here("main.py", *TRAIN, "landmarks", "--overwrite", cwd=workplace).returncode == 0
    assert not list(workplace.rglob(".*"))


def test_overwriting_that_was_killed_is_not_resumed_with_the_earlier_run(workplace, run_here, monkeypatch):
    from face4d.runtime.session import Session

    with monkeypatch.context() as patch:
        patch.setattr(Session, "epochs", lambda session: os._exit(9))
        child = os.fork()
        if child == 0:
            run_here("main.py", *TRAIN, "landmarks", "--overwrite", cwd=workplace)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    resumed = run_here("main.py", *TRAIN, "landmarks", "--resume", cwd=workplace)
    assert resumed.returncode == 0 and "wrote models/x.pt" in resumed.stdout, resumed.stderr


def test_generation_script_on_the_test_set(workplace, run_script, run_here):
    result = run_script("test.py", "--checkpoint", "models/x.pt", cwd=workplace)
    assert result.stdout.splitlines()[-1] == "wrote Generated_Animation/x"
    folder = workplace / "Generated_Animation" / "x"
    assert sorted(path.name for path in folder.iterdir()) == ["CH01_Happy", "CH01_Rage", "CH01_Scream"]
    generated = np.load(folder / "CH01_Rage" / "Rage_CH01.npy")
    real = np.load(workplace / "landmarks" / "Rage_CH01.npy")
    assert generated.shape == real.shape and generated.dtype == np.float32
    np.testing.assert_array_equal(generated[0], real[0])
    assert (folder / "CH01_Rage" / "Rage_CH01.gif").read_bytes()[:6] == b"GIF89a"
    again = run_here("test.py", "--checkpoint", "models/x.pt", cwd=workplace)
    assert again.returncode == 0 and again.stdout.splitlines()[-1] == "kept Generated_Animation/x"
    other = run_here("test.py", "--checkpoint", "models/x.pt", "--intensity", 2, cwd=workplace)
    assert other.returncode == 2 and "intensity = 1.0, not 2.0" in other.stderr and "--overwrite" in other.stderr


def test_generation_goes_on_and_overwrite_looks_at_the_content(workplace, run_here):
    command = "test.py", "--checkpoint", "models/x.pt", "--no-gif", "--output", "out"
    run_here(*command, cwd=workplace)
    folder = workplace / "out"
    whole = {path: path.read_bytes() for path in folder.rglob("*.npy")}
    stamp = (folder / "CH01_Happy" / "Happy_CH01.npy").stat().st_mtime_ns
    shutil.rmtree(folder / "CH01_Rage")  # stopped before it
    (folder / ".face4d.lock").write_text('{"owner": "python test.py (process 1 on here)", "unfinished": true}')
    score = run_here("Classification/test.py", "--checkpoint", "models/x.pt", "--generated", "out", cwd=workplace)
    assert score.returncode == 2
    assert run_here(*command, cwd=workplace).stdout.splitlines()[-1] == "wrote out"
    assert {path: path.read_bytes() for path in folder.rglob("*.npy")} == whole and not list(folder.rglob(".*"))
    assert (folder / "CH01_Happy" / "Happy_CH01.npy").stat().st_mtime_ns == stamp
    damaged = folder / "CH01_Scream" / "Scream_CH01.npy"
    damaged.write_bytes(whole[damaged][:-8] + bytes(8))  # of the same length
    (folder / "CH01_Scream" / "notes.txt").write_text("mine")
    assert run_here(*command, "--overwrite", cwd=workplace).stdout.splitlines()[-1] == "wrote out"
    assert {path: path.read_bytes() for path in folder.rglob("*.npy")} == whole
    assert (folder / "CH01_Scream" / "notes.txt").read_text() == "mine" and (
        folder / "CH01_Happy" / "Happy_CH01.npy"
    ).stat().st_mtime_ns == stamp
    damaged.write_bytes(whole[damaged][:-8])
    cut = run_here(*command, cwd=workplace)
    assert cut.returncode == 2 and "another Scream_CH01.npy than was written" in cut.stderr


def test_own_face_any_length_and_intensity(workplace):
    import runpy

    script = runpy.run_path(str(REPOSITORY / "test.py"))["main"]
    output = workplace / "out"
    base = [
        "--checkpoint",
        str(workplace / "models" / "x.pt"),
        "--actor",
        str(workplace / "me.npy"),
        "--no-gif",
        "--quiet",
    ]
    script([*base, "--label", "Happy", "--output", str(output / "a")])
    script([*base, "--label", "Happy", "--output", str(output / "b"), "--intensity", "2", "--frames", "30"])
    script([*base, "--label", "all", "--output", str(output / "c"), "--frames", "1"])
    neutral = np.load(workplace / "me.npy")
    plain = np.load(output / "a" / "me_Happy" / "Happy_me.npy")
    strong = np.load(output / "b" / "me_Happy" / "Happy_me.npy")
    assert plain.shape == (13, 68, 3) and strong.shape == (31, 68, 3)
    np.testing.assert_allclose(plain[0], neutral)
    np.testing.assert_allclose(strong[-1] - neutral, 2 * (plain[-1] - neutral), atol=1e-6)
    assert len(list((output / "c").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--actor", "me.npy", "--label", "Zen"], ["models/x.pt", "Happy, Rage, Scream", "found Zen"]),
        (["--actor", "nobody.ply", "--label", "Happy"], ["models/flame"]),
        (["--actor", "landmarks/Happy_CH01.npy", "--label", "Happy"], ["(68, 3)", "(13, 68, 3)"]),
        (["--landmarks", "nowhere"], ["nowhere", "no such folder"]),
        (["--checkpoint", "me.npy"], ["me.npy", "generator checkpoint"]),
        (["--checkpoint", "models/x.last.pt"], ["x.last.pt", "generator training state"]),
    ],
)
def test_bad_input_of_generation_is_one_line(workplace, run_here, arguments, words):
    arguments = arguments if "--checkpoint" in arguments else ["--checkpoint", "models/x.pt", *arguments]
    result = run_here("test.py", *arguments, cwd=workplace)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert not (workplace / "Generated_Animation").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--landmarks", "nowhere"], ["nowhere", "no such folder"]),
        (["--landmarks", "landmarks", "--labels", "Happy", "Zen"], ["landmarks", "Zen", "Happy"]),
        (["--landmarks", "landmarks", "--labels", "all", "--validation-subjects", "CH77"], ["CH77", "CH03, CH04"]),
        (["--landmarks", "landmarks", "--labels", "all", "--test-subjects", "CH77"], ["CH77", "CH01, CH03, CH04"]),
        (["--landmarks", "landmarks", "--labels", "all", "--actors", "nowhere"], ["models/flame"]),
        (["--landmarks", "landmarks", "--labels", "all", "--patience", "3"], ["--patience", "--select"]),
    ],
)
def test_bad_input_of_training_is_one_line(workplace, run_here, arguments, words):
    result = run_here("main.py", "--dataset", "florence", *arguments, cwd=workplace)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert len(list((workplace / "models").iterdir())) == 2


def test_checkpoint_of_other_landmarks_is_refused(workplace):
    import torch

    from face4d.errors import InputError
    from face4d.generation.sample import load_generator

    record = torch.load(workplace / "models" / "x.pt", weights_only=True)
    torch.save({**record, "num_landmarks": 51}, workplace / "models" / "x.pt")
    with pytest.raises(InputError, match="num_landmarks to be 68, found 51"):
        load_generator(workplace / "models" / "x.pt")
    torch.save({**record, "model": {}}, workplace / "models" / "x.pt")
    with pytest.raises(InputError, match="none named"):
        load_generator(workplace / "models" / "x.pt")


SCRIPTS = (
    "main.py",
    "test.py",
    "sampling_coma.py",
    *(f"{folder}/{name}.py" for folder in ("Classification", "Sparse2Dense") for name in ("main", "test")),
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_at_once_and_has_examples(script):
    code = (
        "import atexit, runpy, sys; atexit.register(lambda: print('torch' in sys.modules)); sys.argv = ['x', "
        "'--help']; "
        f"runpy.run_path({str(REPOSITORY / script)!r}, run_name='__main__')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"python {script}" in out and out.strip().endswith("False")


def test_dry_run_writes_nothing(workplace, run_here):
    before = sorted(workplace.rglob("*"))
    assert (
        run_here(
            "main.py", "--landmarks", "landmarks", "--test-subjects", "CH01", "--dry-run", cwd=workplace
        ).returncode
        == 0
    )
    assert run_here("test.py", "--checkpoint", "models/x.pt", "--dry-run", cwd=workplace).returncode == 0
    assert sorted(workplace.rglob("*")) == before
