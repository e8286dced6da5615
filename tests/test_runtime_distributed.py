"""Two gloo processes against one: same losses, same weights, whatever the schedule; one voice, one file, one end."""

import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.run import get_args_parser

from face4d.classification.config import PRESETS as CLASSIFIER_PRESETS
from face4d.datasets import landmark_set
from face4d.datasets.augmentation import vary
from face4d.datasets.landmark_set import load_split
from face4d.errors import InputError
from face4d.generation.config import PRESETS as GENERATOR_PRESETS
from face4d.generation.label_motions import fit_label_motions
from face4d.runtime import distributed
from face4d.runtime.run_folder import Run, RunFolder
from face4d.runtime.session import Session
from tests.conftest import REPOSITORY, load_script, write_landmarks

# Nine training sequences in batches of 4, 4, 1: uneven shares, and a batch with fewer sequences than processes.
TINY = {"hidden_size": 8, "epochs": 4, "batch_size": 4, "validate_every": 2, "lr": 1e-3}
DIVERGING = {"lr": 2.0, "lr_schedule": "constant", "epochs": 40, "patience": 2, "validate_every": 1, "select": "test"}
CASES = {
    "first frame": ("main.py", GENERATOR_PRESETS["default"].with_settings(TINY)),
    "every frame": ("main.py", GENERATOR_PRESETS["thesis"].with_settings({**TINY, "grad_clip": 0.1})),
    "classifier": ("Classification/main.py", CLASSIFIER_PRESETS["default"].with_settings({**TINY, "batch_size": 5})),
    "plain classifier": ("Classification/main.py", CLASSIFIER_PRESETS["thesis"].with_settings(TINY)),
    "early stop": ("main.py", GENERATOR_PRESETS["default"].with_settings(TINY | DIVERGING)),
}

EXACT = ("every frame", "plain classifier")


def train_case(name, landmarks, folder, resume=False):
    """Train; the thesis' networks in double precision.

    Adam divides by the gradient's size: where terms cancel to nearly nothing, as signs in an L1 loss do, it makes steps
    of full length out of rounding errors, and float32 runs differ visibly after a hundred steps however they are
    summed.
    """
    script, config = CASES[name]
    split = load_split(landmarks, test_subjects=("CH01", "CH02"))
    run = Run("x", Path(folder, name), Path(folder, name), resume=resume, checkpoint_seconds=0, quiet=True)
    tensors = landmark_set.tensors
    with pytest.MonkeyPatch.context() as patch:
        if name in EXACT:
            torch.set_default_dtype(torch.float64)
            patch.setattr(
                landmark_set, "tensors", lambda *arguments: (tensors(*arguments)[0].double(), tensors(*arguments)[1])
            )
        try:
            return load_script(script).train(split, config, run)
        finally:
            torch.set_default_dtype(torch.float32)


def worker(landmarks, folder):
    """What each of two processes does: all cases; then what two processes make of trouble."""
    torch.set_num_threads(1)
    distributed.init_from_environment()
    rank = distributed.rank()
    seen = {name: train_case(name, landmarks, folder) for name in CASES}
    train_case("every frame", landmarks, Path(folder, "continued"), resume=True)
    seen["any"] = [distributed.any_rank(rank == 1), distributed.any_rank(False)]
    seen["main"] = distributed.from_main(lambda: f"from {rank}")
    seen["total"] = distributed.total(torch.tensor(float(rank + 1))).item()
    model = torch.nn.Linear(2, 3).double()
    torch.nn.init.constant_(model.weight, rank)
    distributed.broadcast_weights(model)
    seen["broadcast"] = model.weight.sum().item()
    Path(folder, f"seen{rank}.json").write_text(json.dumps(seen))
    validated = Session.validated

    def press(*arguments, **keywords):
        if rank == 0:
            signal.raise_signal(signal.SIGINT)  # in one process, in its second epoch
        return validated(*arguments, **keywords)

    Session.validated = press
    train_case("every frame", landmarks, Path(folder, "interrupted"))  # the end of both


def spawn(folders, code):
    """One process in each folder, as torchrun starts them but seconds sooner."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(len(folders)),
    }
    shared["PYTHONPATH"] = str(REPOSITORY)
    return [
        subprocess.Popen(
            [sys.executable, *code],
            cwd=folder,
            env={**shared, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, folder in enumerate(folders)
    ]


def finish(processes):
    try:
        return [(*process.communicate(timeout=120), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory):
    labels, subjects = ("Happy", "Rage", "Scream"), ("CH01", "CH02", "CH03", "CH04", "CH05")
    return write_landmarks(tmp_path_factory.mktemp("data") / "landmarks", labels, subjects, 13)


@pytest.fixture(scope="module")
def single(landmarks, tmp_path_factory):
    """All cases by one process: folder and metrics."""
    folder = tmp_path_factory.mktemp("single")
    return folder, {name: train_case(name, landmarks, folder) for name in CASES}


@pytest.fixture(scope="module")
def double(landmarks, single, tmp_path_factory):
    """All cases by two processes, and their end."""
    folder = tmp_path_factory.mktemp("double")
    leave_half_way(landmarks, folder / "continued")
    code = f"from tests.test_runtime_distributed import worker; worker({str(landmarks)!r}, {str(folder)!r})"
    (_, first_error, _), (_, second_error, second_code) = finish(spawn([folder, folder], ["-c", code]))
    assert first_error.strip().endswith("KeyboardInterrupt") and first_error.count("Traceback") == 1, first_error
    assert second_code == 130 and not second_error, second_error
    return folder


class Stopped(Exception):
    pass


def leave_half_way(landmarks, folder):
    """A one-process run that was stopped after two of its four epochs."""
    epochs, original = [], RunFolder.scalars

    def stop(self, values, step):
        epochs.append(step)
        if len(epochs) == 3:
            raise Stopped
        original(self, values, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(RunFolder, "scalars", stop)
        train_case("every frame", landmarks, folder)


def weights(folder, name):
    return torch.load(Path(folder, name, "x.pt"), weights_only=True)["model"]


def assert_close(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        tolerance = {"atol": 1e-11, "rtol": 1e-9} if value.dtype == torch.float64 else {"atol": 2e-6, "rtol": 2e-5}
        torch.testing.assert_close(found[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def curve(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(Path(folder, name, "x"))).Reload()
    return [event.value for event in events.Scalars("train/loss")]


@pytest.mark.parametrize("name", [name for name in CASES if name != "early stop"])
def test_two_processes_end_with_the_weights_losses_and_scores_of_one(single, double, name):
    folder, metrics = single
    start = torch.load(Path(folder, name, "x.pt"), weights_only=True)
    assert start["epoch"] == torch.load(Path(double, name, "x.pt"), weights_only=True)["epoch"]
    assert_close(weights(double, name), weights(folder, name))
    np.testing.assert_allclose(curve(double, name), curve(folder, name), rtol=1e-5)
    for number in (0, 1):
        seen = json.loads((double / f"seen{number}.json").read_text())[name]
        for key, value in metrics[name].items():
            assert key in ("seconds", "selected_by") or seen[key] == pytest.approx(value, rel=1e-5), key


def test_all_processes_stop_early_together(single, double):
    for number in (0, 1):
        seen = json.loads((double / f"seen{number}.json").read_text())["early stop"]
        assert seen["epochs_trained"] < 40 and seen["epochs_trained"] - seen["epoch"] == 2


def test_rank_0_alone_writes(double):
    for name in CASES:
        assert len(list(Path(double, name, "x").glob("events*"))) == 1
        assert sorted(path.name for path in Path(double, name).iterdir()) == ["x", "x.last.pt", "x.pt"]
        assert json.loads(Path(double, name, "x", "config.json").read_text())["processes"] == 2


def test_two_processes_continue_what_one_began(single, double):
    assert_close(weights(double / "continued", "every frame"), weights(single[0], "every frame"))


def test_one_process_continues_what_two_began(single, double, landmarks, tmp_path):
    """Ctrl-C reached one of them in epoch 2; both left after it."""
    state = torch.load(Path(double, "interrupted", "every frame", "x.last.pt"), weights_only=True)
    assert state["state"]["epoch"] == 2 and not Path(double, "interrupted", "every frame", "x.pt").exists()
    shutil.copytree(double / "interrupted", tmp_path / "interrupted")
    train_case("every frame", landmarks, tmp_path / "interrupted", resume=True)
    assert_close(weights(tmp_path / "interrupted", "every frame"), weights(single[0], "every frame"))


def test_messages_between_processes(double):
    first, second = (json.loads((double / f"seen{number}.json").read_text()) for number in (0, 1))
    for key, value in {"any": [True, False], "main": "from 0", "total": 3.0, "broadcast": 0.0}.items():
        assert first[key] == second[key] == value


def test_shares_cover_a_batch_once_and_their_weights_are_one(monkeypatch):
    for size in (1, 2, 3, 8):
        monkeypatch.setattr(distributed, "world_size", lambda size=size: size)
        for count in (1, 2, 7, 25):
            rows, weight = [], 0.0
            for number in range(size):
                monkeypatch.setattr(distributed, "rank", lambda number=number: number)
                part = distributed.share(count)
                assert len(range(count)[part.rows]) >= 1
                rows += list(range(count)[part.rows]) if part.weight else []
                weight += part.weight
            assert rows == list(range(count)) and weight == pytest.approx(1)


def test_a_part_of_an_augmented_batch_is_that_part_of_the_whole():
    data = torch.randn(6, 9, 68, 3, generator=torch.Generator().manual_seed(0))
    labels, chosen, rows = torch.tensor([0, 1, 0, 1, 0, 1]), torch.tensor([4, 1, 3, 0, 2]), slice(2, 4)
    draw = lambda *rows: vary(data, labels, chosen, torch.Generator().manual_seed(1), *rows)  # noqa: E731
    torch.testing.assert_close(draw(rows), draw()[rows], rtol=0, atol=0)
    motions = fit_label_motions(data, torch.arange(6), ["a"] * 6)
    for apexes in (0, 3):
        draw = lambda *rows: motions.draw(chosen, apexes, torch.Generator().manual_seed(1), *rows)  # noqa: B023, E731
        torch.testing.assert_close(draw(rows), draw()[:, rows])


def test_without_torchrun_there_is_no_process_group(monkeypatch):
    for value in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if value:
            monkeypatch.setenv("WORLD_SIZE", value)
        distributed.init_from_environment()
        assert not torch.distributed.is_initialized() and distributed.is_main() and distributed.world_size() == 1
        assert distributed.share(7) == (slice(0, 7), 1.0)
    with pytest.raises(InputError), distributed.agreement():
        raise InputError("a", "b", "c")


FLAGS = (
    "--labels",
    "all",
    "--hidden-size",
    "8",
    "--batch-size",
    "4",
    "--run",
    "x",
    "--validate-every",
    "500",
    "--checkpoint-seconds",
    "1000",
)


def test_torchrun_interrupted_leaves_a_checkpoint_that_one_process_continues(landmarks, tmp_path, monkeypatch):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    flags = [str(REPOSITORY / "main.py"), "--dataset", "florence", "--landmarks", str(landmarks), *FLAGS, "--epochs"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*torchrun, *flags, "100000"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("runs/x/events*")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()  # what lives on would write forever, and reading wait for it
            pytest.fail(process.stderr.read())
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=180)
    assert process.returncode != 0 and not (tmp_path / "models" / "x.pt").exists()
    assert output.count("9 training and 6 test sequences") == 1 and "2 x cpu" in output, output
    assert errors.count("error: interrupted") == 1, errors
    state = torch.load(tmp_path / "models" / "x.last.pt", weights_only=True)
    assert state["state"]["epoch"] > 0
    state["identity"]["config"]["epochs"] = state["state"]["epoch"] + 2  # a run that was meant to be this short
    torch.save(state, tmp_path / "models" / "x.last.pt")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(flags[0])["main"]([*flags[1:], str(state["state"]["epoch"] + 2), "--resume"])
    assert (
        json.loads((tmp_path / "runs" / "x" / "metrics.json").read_text())["epochs_trained"]
        == state["state"]["epoch"] + 2
    )


def test_bad_input_of_one_process_is_one_line_of_rank_0_and_ends_both(landmarks, tmp_path):
    """The second process works in another folder, where the data is not."""
    shutil.copytree(landmarks, tmp_path / "0" / "landmarks")
    (tmp_path / "1").mkdir()
    code = [
        str(REPOSITORY / "Classification" / "main.py"),
        "--dataset",
        "florence",
        "--landmarks",
        "landmarks",
        "--labels",
        "all",
    ]
    (_, said, first), (*others, second) = finish(spawn([tmp_path / "0", tmp_path / "1"], code))
    assert (first, second) == (2, 2)
    assert said.startswith("error: landmarks: expected a folder") and said.count("\n") == 1
    assert others == ["", ""] and sorted(path.name for path in tmp_path.rglob("*") if path.suffix != ".npy") == [
        "0",
        "1",
        "landmarks",
    ]


@pytest.mark.parametrize("script", ["main.py", "Classification/main.py"])
def test_only_run_is_taken_for_a_flag_of_torchrun(script, capsys):
    """What docs/scaling.md says of commands without ``--``: torchrun stops at ``--run``, and every other flag passes
    it."""
    own = runpy.run_path(str(REPOSITORY / script))["build_parser"]()._option_string_actions
    taken = []
    for flag in own:
        try:
            passed = (
                get_args_parser()
                .parse_args(["--nproc-per-node", "2", script, "--dataset", "demo", flag])
                .training_script_args
            )
        except SystemExit:
            passed = None
        if passed != ["--dataset", "demo", flag]:
            taken.append(flag)
    assert taken == ["--run"] and "ambiguous option: --run" in capsys.readouterr().err
