"""Training: the thesis' schedule against reference losses, resuming, selection, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, hold_out, load_split
from face4d.errors import InputError
from face4d.generation.config import PRESETS, GeneratorConfig
from face4d.generation.lstm import ThesisGenerator
from face4d.generation.sample import load_generator, sequence_errors
from face4d.runtime.run_folder import Run, RunFolder
from face4d.runtime.session import learning_rate
from tests.conftest import REPOSITORY, load_script, write_landmarks
from tests.test_generation_lstm import recipe_weights

TINY = {"hidden_size": 8, "epochs": 6, "batch_size": 4, "validate_every": 2}


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


def config(preset: str = "default", **flags) -> GeneratorConfig:
    return PRESETS[preset].with_settings({**TINY, **flags})


DEFAULT = config()


def run_training(split, folder, config=DEFAULT, **how):
    metrics = load_script("main.py").train(
        split, config, Run("a", folder / "models", folder / "runs", quiet=True, **how)
    )
    return metrics, load_generator(folder / "models" / "a.pt")


@pytest.mark.parametrize("engine", ["fast", "plain"])
@pytest.mark.parametrize(("name", "loss_name"), [("l1", "l1"), ("l2", "mse")])
def test_thesis_schedule_meets_the_reference_losses(reference, tmp_path, monkeypatch, name, loss_name, engine):
    """Two batches of 40 optimiser steps, last start frame first; one optimiser over both: an epoch of main.py on the
    reference's data."""
    vectors = reference("c02_training")
    batches = [vectors[f"batch{number}"] for number in (1, 2)]  # (B, 41, 68, 3)
    labels = np.concatenate([vectors[f"labels{number}"] for number in (1, 2)])
    names = tuple(f"label{number:02d}" for number in range(12))
    sequences = tuple(
        LandmarkSequence(Path(f"{number}.npy"), names[label], f"{number}", landmarks, np.zeros((68, 3), np.float32))
        for number, (label, landmarks) in enumerate(zip(labels, np.concatenate(batches)))
    )
    network = ThesisGenerator(num_labels=12, hidden_size=32, engine=engine)
    recipe_weights(network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    monkeypatch.setattr("face4d.generation.lstm.build_network", lambda *_: network)
    monkeypatch.setattr(torch, "randperm", lambda count, generator: torch.arange(count))
    size = len(batches[0])
    settings = config("thesis", loss=name, engine=engine, hidden_size=32, epochs=1, batch_size=size, select="last")
    run_training(LandmarkSplit(sequences, sequences[:1], names), tmp_path, config=settings)
    curves = RunFolder(tmp_path / "runs" / "a").read_curves()
    assert curves["train/loss"][1][0] == pytest.approx(vectors[f"{loss_name}_losses"].sum(axis=1).mean(), rel=1e-5)
    after = network.state_dict()
    for k, parameter in enumerate(map(str, vectors["param_names"])):
        moved = (after[parameter].double() - before[parameter].double()).abs().sum().item()
        assert moved == pytest.approx(vectors[f"{loss_name}_delta_abssum"][k], rel=1e-4)
        flat = after[parameter].flatten().numpy()
        np.testing.assert_allclose(flat[:6], vectors[f"{loss_name}_final_first6"][k], atol=5e-6, rtol=0)
        np.testing.assert_allclose(flat[-6:], vectors[f"{loss_name}_final_last6"][k], atol=5e-6, rtol=0)


def test_thesis_preset_trains_with_that_schedule(split, tmp_path):
    """The engine's epoch loss is the sum of the reference loop's losses over start frames, averaged over batches."""
    settings = config("thesis", epochs=1, batch_size=9)
    run_training(split, tmp_path, config=settings)
    torch.manual_seed(settings.seed)
    network = ThesisGenerator(3, settings.hidden_size)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(settings.seed))
    data = torch.from_numpy(np.stack([sequence.displacement for sequence in split.train]))[order]
    labels = torch.tensor([split.labels.index(sequence.label) for sequence in split.train])[order]
    for start in range(11, -1, -1):
        optimizer.zero_grad()
        (network(data[:, start], labels, 12 - start) - data[:, start + 1 :]).abs().mean().backward()
        optimizer.step()
    trained = load_generator(tmp_path / "models" / "a.pt").network.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(trained[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_default_preset_beats_the_static_neutral(split, tmp_path, loss):
    metrics, generator = run_training(split, tmp_path, config=config(loss=loss, epochs=40, hidden_size=24, lr=1e-2))
    displacement = np.stack([sequence.displacement for sequence in split.test])[:, 1:]
    assert metrics["test/mm"] < 0.75e3 * np.linalg.norm(displacement, axis=3).mean()
    assert generator.labels == ("Happy", "Rage", "Scream")


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_thesis_preset_learns(split, tmp_path, loss):
    early, _ = run_training(split, tmp_path / "early", config=config("thesis", loss=loss, epochs=1, lr=1e-3))
    late, _ = run_training(split, tmp_path / "late", config=config("thesis", loss=loss, epochs=20, lr=1e-3))
    assert late["test/mm"] < 0.25 * early["test/mm"]


def test_metrics_file_holds_the_scores_of_the_weights_kept(split, tmp_path):
    _, generator = run_training(split, tmp_path)
    written = json.loads((tmp_path / "runs" / "a" / "metrics.json").read_text())
    assert {"test/mse", "test/l1", "test/mm", "test/mm_std", "epoch", "seconds"} <= set(written)
    test = np.stack([sequence.displacement for sequence in split.test])
    labels = np.array([generator.labels.index(sequence.label) for sequence in split.test])
    difference = generator.generate(test[:, 0], labels)[:, 1:] - test[:, 1:]
    assert written["test/mse"] == pytest.approx(np.square(difference, dtype=np.float64).mean(), rel=1e-5)
    assert written["test/l1"] == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert written["test/mm"] == pytest.approx(1e3 * np.linalg.norm(difference, axis=3).mean(), rel=1e-5)
    settings = json.loads((tmp_path / "runs" / "a" / "config.json").read_text())
    assert settings["config"] == config().as_dict() and settings["versions"]["torch"] == torch.__version__
    assert list((tmp_path / "runs" / "a").glob("events.out.tfevents.*"))


def test_what_the_training_sequences_chose_is_recorded(split, tmp_path):
    _, generator = run_training(split, tmp_path)
    choice = json.loads((tmp_path / "runs" / "a" / "config.json").read_text())["choice"]
    assert choice["components"] == generator.network.basis.shape[1] >= 2 and 0 <= choice["timing"] <= 1
    flat = np.concatenate([sequence.displacement for sequence in split.train]).reshape(-1, 204).astype(np.float64)
    energy = np.square(np.linalg.svd(flat, compute_uv=False))
    kept = energy[: choice["components"]].sum() / energy.sum()
    assert kept >= 1 - 1e-5 > kept - energy[choice["components"] - 1] / energy.sum()
    _, generator = run_training(split, tmp_path / "given", config=config(components=3))
    assert generator.network.basis.shape[1] == 3
    run_training(split, tmp_path / "thesis", config=config("thesis"))
    assert "choice" not in json.loads((tmp_path / "thesis" / "runs" / "a" / "config.json").read_text())


def test_training_improves_on_the_mean_motion_in_its_own_loss(split, tmp_path):
    """In L1 the median over apex times is better than their mean, which training begins with."""
    errors = {}
    for epochs in (1, 150):
        flags = {
            "epochs": epochs,
            "validate_every": epochs,
            "loss": "l1",
            "hidden_size": 32,
            "lr": 1e-6 if epochs == 1 else 4e-3,
        }
        run_training(split, tmp_path / str(epochs), config=config(**flags))
        errors[epochs] = RunFolder(tmp_path / str(epochs) / "runs" / "a").read_curves()["train/loss"][1][-1]
    assert errors[150] < 0.98 * errors[1]


@pytest.mark.parametrize("flags", [{"warps": 0}, {"network": "coefficients"}, {"start_frames": "every"}])
def test_other_ways_to_train_learn_too(split, tmp_path, flags):
    flags = {"epochs": 60, "hidden_size": 24, "lr": 1e-2, **flags}
    metrics, generator = run_training(split, tmp_path, config=config(**flags))
    displacement = np.stack([sequence.displacement for sequence in split.test])[:, 1:]
    assert metrics["test/mm"] < 0.75e3 * np.linalg.norm(displacement, axis=3).mean()
    assert generator.network.residual == ("network" not in flags)


def test_same_seed_same_weights_and_another_seed_others(split, tmp_path):
    weights = [
        run_training(split, tmp_path / name, config=config(seed=seed))[1].network.state_dict()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["fc_2.weight"], weights[2]["fc_2.weight"])


def test_select_last_never_looks_at_the_test_set(split, tmp_path, landmark_folder):
    """Other test sequences, same weights."""
    _, generator = run_training(split, tmp_path / "one")
    for path in landmark_folder.glob("*_CH01.npy"):
        np.save(path, np.load(path)[::-1] + np.random.default_rng(0).normal(0, 1e-3, (13, 68, 3)).astype(np.float32))
    _, other = run_training(load_split(landmark_folder, test_subjects=("CH01", "CH02")), tmp_path / "two")
    for name, value in generator.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name])


def test_held_out_subjects_choose_weights_and_stop_early(split, tmp_path):
    # diverges
    settings = config(select="validation", lr=2.0, lr_schedule="constant", epochs=60, patience=3, validate_every=1)
    metrics, _ = run_training(hold_out(split, ["CH05"]), tmp_path, config=settings)
    assert metrics["epochs_trained"] < 60
    assert metrics["epochs_trained"] - metrics["epoch"] == 3


def test_validation_is_not_changed_by_plotting_nor_changes_the_network(split, tmp_path):
    from face4d.render.landmarks import landmark_gif

    _, generator = run_training(split, tmp_path)
    test = torch.from_numpy(np.stack([sequence.displacement for sequence in split.test]))
    labels = torch.tensor([split.labels.index(sequence.label) for sequence in split.test])
    random_state = torch.get_rng_state()
    first = sequence_errors(generator.network, test, labels)
    for sequence in split.test:
        landmark_gif(tmp_path / "x.gif", sequence.landmarks, reference=sequence.landmarks)
    assert sequence_errors(generator.network, test, labels) == first
    assert torch.equal(torch.get_rng_state(), random_state)
    assert np.array_equal(test.numpy(), np.stack([sequence.displacement for sequence in split.test]))


def test_continuing_with_other_settings_or_data_is_refused(split, tmp_path, landmark_folder):
    run_training(split, tmp_path)
    with pytest.raises(InputError, match="hidden_size = 9"):
        run_training(split, tmp_path, config=config(hidden_size=9), resume=True)
    path = next(landmark_folder.glob("*_CH04.npy"))
    np.save(path, np.load(path) * 1.01)
    with pytest.raises(InputError, match="same data"):
        run_training(load_split(landmark_folder, test_subjects=("CH01", "CH02")), tmp_path, resume=True)


def test_diverged_training_is_an_error_not_a_checkpoint(split, tmp_path, monkeypatch):
    monkeypatch.setattr("face4d.runtime.session.learning_rate", lambda *_: 1e30)
    with pytest.raises(InputError, match="finite training loss"):
        run_training(split, tmp_path, config=config("thesis", loss="l2"))
    assert not (tmp_path / "models" / "a.pt").exists()


def test_one_cycle_rises_and_falls_to_zero():
    rates = [learning_rate(config(lr=1.0), k / 100) for k in range(1, 101)]
    assert np.argmax(rates) == 9 and rates[9] == pytest.approx(1.0) and rates[-1] == pytest.approx(0.0)
    assert np.all(np.diff(rates[9:]) < 0)


def training_process(landmarks, folder, *more) -> tuple[list[str], dict]:
    """Command and keywords of a training script that saves after every epoch."""
    flags = [
        "--dataset",
        "florence",
        "--landmarks",
        landmarks,
        "--labels",
        "all",
        "--hidden-size",
        16,
        "--epochs",
        120,
        "--run",
        "x",
    ]
    command = [
        sys.executable,
        str(REPOSITORY / "main.py"),
        *map(str, flags),
        "--checkpoint-seconds",
        "0",
        "--validate-every",
        "50",
        *more,
    ]
    folder.mkdir(exist_ok=True)
    return command, {
        "cwd": folder,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Landmarks, and the weights of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    landmarks = write_landmarks(
        folder / "landmarks", ("Happy", "Rage", "Scream"), ("CH01", "CH02", "CH03", "CH04", "CH05"), 13
    )
    command, keywords = training_process(landmarks, folder / "run")
    subprocess.run(command, check=True, **keywords)
    return landmarks, load_generator(folder / "run" / "models" / "x.pt").network.state_dict()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumed_ends_with_the_weights_of_an_uninterrupted_one(uninterrupted, tmp_path, number):
    landmarks, whole = uninterrupted
    command, keywords = training_process(landmarks, tmp_path / "run")
    process = subprocess.Popen(command, **keywords)
    last = tmp_path / "run" / "models" / "x.last.pt"
    while not last.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert not (tmp_path / "run" / "models" / "x.pt").exists(), "it had finished before it was killed"
    command, keywords = training_process(landmarks, tmp_path / "run", "--resume")
    subprocess.run(command, check=True, **keywords)
    resumed = load_generator(tmp_path / "run" / "models" / "x.pt").network.state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_real_landmarks_are_learned_in_a_few_epochs(shared_data, tmp_path):
    from face4d.constants import FLORENCE_LABELS

    real = load_split(shared_data / "landmarks_florence", labels=FLORENCE_LABELS)
    metrics, _ = run_training(real, tmp_path, config=PRESETS["default"].with_settings({"epochs": 20}))
    assert metrics["test/mse"] < 0.5 * 6.73e-6  # static neutral: 6.73e-6


@pytest.mark.parametrize("preset", ["default", "thesis"])
def test_bf16_products_train_about_as_well_and_fp32_stays_the_default(split, tmp_path, preset):
    flags = {"epochs": 30, "hidden_size": 24, "lr": 5e-3}
    exact, _ = run_training(split, tmp_path / "fp32", config=config(preset, **flags))
    rounded, generator = run_training(split, tmp_path / "bf16", config=config(preset, precision="bf16", **flags))
    assert config(preset).precision == "fp32"
    assert rounded["test/mm"] != exact["test/mm"] and rounded["test/mm"] < 1.3 * exact["test/mm"]
    assert all(value.dtype == torch.float32 for value in generator.network.state_dict().values())


def test_tf32_on_a_processor_is_fp32_and_says_so(split, tmp_path, caplog):
    exact, _ = run_training(split, tmp_path / "fp32")
    rounded, _ = run_training(split, tmp_path / "tf32", config=config(precision="tf32"))
    assert rounded["test/mse"] == exact["test/mse"]
    assert any("tf32" in note and note.endswith("in fp32 all the same") for note in caplog.messages)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", ["default", "thesis"])
def test_cuda_graphs_train_as_the_cpu_does(split, tmp_path, preset):
    """Three epochs: first calls as they are, then captures, then replays."""
    settings = config(preset, epochs=3, hidden_size=16)
    run_training(split, tmp_path / "cpu", config=settings)
    run_training(split, tmp_path / "cuda", config=settings, device=torch.device("cuda"))
    cpu, cuda = (load_generator(tmp_path / name / "models" / "a.pt").network.state_dict() for name in ("cpu", "cuda"))
    for name, value in cpu.items():
        torch.testing.assert_close(cuda[name].cpu(), value, atol=1e-4, rtol=1e-3)
