import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from face4d.classification.classifier import load_classifier, recognition
from face4d.classification.config import PRESETS, ClassifierConfig
from face4d.datasets.landmark_set import hold_out, load_split, stack
from face4d.errors import InputError
from face4d.runtime.checkpoint import save_checkpoint
from face4d.runtime.run_folder import Run
from face4d.runtime.session import learning_rate
from tests.conftest import REPOSITORY, load_script, write_landmarks

TINY = {"hidden_size": 8, "epochs": 8, "batch_size": 4, "validate_every": 2}


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


def run_training(split, folder, preset="default", config=TINY, **how):
    metrics = load_script("Classification/main.py").train(
        split, PRESETS[preset].with_settings(config), Run("x", folder / "models", folder / "runs", quiet=True, **how)
    )
    return metrics, load_classifier(folder / "models" / "x.pt")


def weights(folder):
    return torch.load(folder / "models" / "x.pt", weights_only=True)["model"]


def test_a_short_training_tells_three_labels_apart(split, tmp_path):
    metrics, classifier = run_training(split, tmp_path, config={**TINY, "hidden_size": 16, "epochs": 30})
    assert metrics["test/accuracy"] == metrics["train/accuracy"] == 1.0
    real, true = stack(split.test, classifier.labels)
    assert classifier.predict(real).tolist() == true.tolist()
    assert classifier.predict(0.7 * real[:, 1:9]).tolist() == true.tolist()  # weaker and cut short
    features = classifier.features(np.concatenate([real] * 20))  # more than one batch
    assert features.shape == (20 * len(real), 32) and not features.requires_grad
    with torch.no_grad():
        assert classifier.model.fc_classification(features[-len(real) :]).argmax(1).tolist() == true.tolist()
        torch.testing.assert_close(features[: len(real)], classifier.model.features(torch.from_numpy(real)))
    assert json.loads((tmp_path / "runs" / "x" / "metrics.json").read_text()) == metrics
    config = json.loads((tmp_path / "runs" / "x" / "config.json").read_text())
    assert config["config"]["hidden_size"] == 16 and config["labels"] == ["Happy", "Rage", "Scream"]
    assert len(config["data_digest"]) == 64 and "torch" in config["versions"]
    assert list((tmp_path / "runs" / "x").glob("events.out.tfevents.*"))


def test_one_optimiser_step_lowers_the_loss(split):
    from face4d.classification.model import ExpressionClassifier

    torch.manual_seed(0)
    model = ExpressionClassifier(3, 8, input_scale=300.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data, labels = map(torch.from_numpy, stack(split.train, split.labels))
    before = torch.nn.functional.cross_entropy(model(data), labels)
    before.backward()
    optimizer.step()
    assert recognition(model, data, labels).loss < before.item()


def test_thesis_preset_is_the_thesis_schedule(split, tmp_path):
    thesis = PRESETS["thesis"]
    assert (thesis.batch_size, thesis.epochs, thesis.select, thesis.augment, thesis.scale_input) == (
        25,
        2000,
        "test",
        False,
        False,
    )
    assert learning_rate(thesis, 0.01) == learning_rate(thesis, 1.0) == thesis.lr
    # Two epochs by hand: plain Adam on cross-entropy over frames 0..T, in the order of the data generator.
    from face4d.classification.model import ExpressionClassifier

    run_training(
        split,
        tmp_path,
        "thesis",
        {"hidden_size": 8, "layers": 2, "epochs": 2, "batch_size": 4, "select": "last", "lr": 1e-3},
    )
    generator = torch.Generator().manual_seed(27)
    torch.manual_seed(27)
    model = ExpressionClassifier(3, 8, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data, labels = map(torch.from_numpy, stack(split.train, split.labels))
    for _ in range(2):
        for chosen in torch.randperm(9, generator=generator).split(4):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(data[chosen]), labels[chosen]).backward()
            optimizer.step()
    for name, value in weights(tmp_path).items():
        # the fused optimiser rounds in another order
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=1e-6)


def test_one_cycle_rises_and_falls_to_zero():
    config = ClassifierConfig(lr=0.5)
    assert learning_rate(config, 0.05) == pytest.approx(0.25)
    assert learning_rate(config, 0.1) == pytest.approx(0.5)
    assert learning_rate(config, 0.55) == pytest.approx(0.25)
    assert learning_rate(config, 1.0) == pytest.approx(0.0)


def test_validation_and_plotting_change_no_number(split, tmp_path):
    """The original's validation scores changed when it plotted."""
    from face4d.classification.model import ExpressionClassifier
    from face4d.render.landmarks import landmark_frames
    from face4d.view.plots import confusion_matrix_figure, save_figure

    model = ExpressionClassifier(3, 8).train()
    data, labels = map(torch.from_numpy, stack(split.test, split.labels))
    before = data.clone(), {name: value.clone() for name, value in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    scores = recognition(model, data, labels)
    landmark_frames(split.test[0].landmarks, reference=split.test[1].landmarks, size=64)
    save_figure(confusion_matrix_figure(np.eye(3, dtype=int), split.labels), tmp_path / "matrix")
    assert recognition(model, data, labels) == scores
    assert torch.equal(torch.get_rng_state(), torch_state) and (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(data, before[0]) and all(
        torch.equal(model.state_dict()[name], value) for name, value in before[1].items()
    )
    assert model.training
    # Validating more often trains the same weights.
    for every in (1, 8):
        run_training(split, tmp_path / str(every), config={**TINY, "validate_every": every})
    often, seldom = weights(tmp_path / "1"), weights(tmp_path / "8")
    assert all(torch.equal(often[name], seldom[name]) for name in often)


def test_label_numbers_do_not_depend_on_the_files_of_the_test_folder(landmark_folder, tmp_path):
    """In the original a missing test file renumbered the labels after it."""
    root = tmp_path / "split"
    for path in landmark_folder.iterdir():
        half = root / ("dataset_testing" if path.stem.endswith(("CH01", "CH02")) else "dataset_training")
        half.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, half / path.name)
    _, whole = run_training(load_split(root), tmp_path / "whole")
    for path in (root / "dataset_testing").glob("Happy_*"):
        path.unlink()
    fewer = load_split(root)
    _, partial = run_training(fewer, tmp_path / "partial")
    assert whole.labels == partial.labels == ("Happy", "Rage", "Scream")
    assert sorted(set(stack(fewer.test, partial.labels)[1].tolist())) == [1, 2]
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "partial")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_selection_and_early_stop(split, tmp_path):
    smaller = hold_out(split, ["CH05"])
    flags = {**TINY, "epochs": 40, "validate_every": 1, "select": "validation", "patience": 3, "lr": 1e-7}
    metrics, _ = run_training(smaller, tmp_path, config=flags)
    assert metrics["epoch"] <= metrics["epochs_trained"] <= 40 and "validation/accuracy" in metrics
    flags |= {"lr": 10.0, "grad_clip": 0.0, "lr_schedule": "constant"}
    metrics, _ = run_training(smaller, tmp_path / "wild", config=flags)
    assert metrics["epochs_trained"] == metrics["epoch"] + 3 < 40  # no improvement for three validations
    with pytest.raises(InputError, match="held-out"):
        run_training(split, tmp_path, config=flags)
    with pytest.raises(InputError, match="patience"):
        ClassifierConfig(patience=3)


def test_select_test_keeps_the_best_weights_not_the_last(split, tmp_path):
    flags = {
        **TINY,
        "select": "test",
        "validate_every": 1,
        "lr": 5.0,
        "epochs": 12,
        "lr_schedule": "constant",
        "grad_clip": 0.0,
    }
    metrics, _ = run_training(split, tmp_path, config=flags)
    last = torch.load(tmp_path / "models" / "x.last.pt", weights_only=True)
    assert [-metrics["test/accuracy"], metrics["test/loss"]] == pytest.approx(last["state"]["best_score"], rel=1e-6)
    assert metrics["epoch"] == last["state"]["best_epoch"] < 12
    assert any(not torch.equal(weights(tmp_path)[name], last["model"][name]) for name in last["model"])


def test_resume_refuses_other_data_and_other_settings(split, tmp_path):
    run_training(split, tmp_path)
    with pytest.raises(InputError, match="hidden_size"):
        run_training(split, tmp_path, config={**TINY, "hidden_size": 9}, resume=True)
    smaller = hold_out(split, ["CH05"])
    with pytest.raises(InputError, match="same data"):
        run_training(smaller, tmp_path, resume=True)
    before = weights(tmp_path)
    run_training(split, tmp_path, resume=True)  # finished: nothing changes
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path).items())


def test_not_a_number_ends_training_with_one_line(split, tmp_path, monkeypatch):
    monkeypatch.setattr("face4d.runtime.session.learning_rate", lambda *_: 3e37)
    with pytest.raises(InputError, match="finite training loss"):
        run_training(split, tmp_path, config={**TINY, "grad_clip": 0.0})
    assert not (tmp_path / "models" / "x.pt").exists()


def test_checkpoint_of_other_landmarks_is_refused(split, tmp_path):
    run_training(split, tmp_path)
    path = tmp_path / "models" / "x.pt"
    record = torch.load(path, weights_only=True)
    torch.save({**record, "network": {**record["network"], "num_landmarks": 51}}, path)
    with pytest.raises(InputError, match="network.num_landmarks to be 68, found 51"):
        load_classifier(path)


def test_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with pytest.raises(InputError, match="no such file"):
        load_classifier(path)
    save_checkpoint(path, "generator", {})
    with pytest.raises(InputError, match="generator checkpoint"):
        load_classifier(path)
    network = {"hidden_size": 4, "layers": 1, "input_scale": 1.0, "num_landmarks": 68}
    content = {
        "config": {},
        "labels": ["a"],
        "network": network,
        "frames": 41,
        "source": {},
        "metrics": {},
        "model": {},
    }
    save_checkpoint(path, "classifier", content)
    with pytest.raises(InputError, match="none named lstm.weight_ih_l0"):
        load_classifier(path)


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    write_landmarks(tmp_path / "landmarks", ("Happy", "Rage"), ("CH01", "CH03", "CH04", "CH05"), 9)
    script = str(REPOSITORY / "Classification" / "main.py")
    command = [
        sys.executable,
        script,
        "--dataset",
        "florence",
        "--landmarks",
        "../landmarks",
        "--labels",
        "all",
        "--run",
        "x",
        "--quiet",
    ]
    command += [
        "--hidden-size",
        "8",
        "--epochs",
        "120",
        "--batch-size",
        "3",
        "--select",
        "test",
        "--checkpoint-seconds",
        "0",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = subprocess.Popen(command, cwd=tmp_path / "whole", env=environment, stdout=subprocess.DEVNULL)
    process = subprocess.Popen(command, cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL)
    state = tmp_path / "killed" / "models" / "x.last.pt"
    deadline = time.monotonic() + 60
    while not state.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() != 0 and whole.wait() == 0
    assert not (tmp_path / "killed" / "models" / "x.pt").exists(), "it had finished before it was killed"
    subprocess.run([*command, "--resume"], cwd=tmp_path / "killed", env=environment, check=True, capture_output=True)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_real_florence_landmarks_are_told_apart(shared_data, tmp_path):
    from face4d.constants import FLORENCE_LABELS
    from face4d.evaluation.scores import score

    split = load_split(shared_data / "landmarks_florence", labels=FLORENCE_LABELS)
    torch.set_num_threads(1)
    metrics, classifier = run_training(split, tmp_path, config={"hidden_size": 32, "epochs": 15, "validate_every": 15})
    assert metrics["test/accuracy"] == 1.0
    # What a deterministic generator answers at best: the class mean, with the smoothing of its averaged timing.
    train_set, labels = stack(split.train, split.labels)
    means = np.stack([train_set[labels == index].mean(axis=0) for index in range(10)])
    assert classifier.predict(means[:, 1:]).tolist() == list(range(10))
    assert math.isclose(classifier.model.input_scale, 1 / np.sqrt(np.square(train_set).mean()), rel_tol=1e-5)
    # What makes features a measure of realism: real against real is near zero, and the worse the motion, the further
    # away.
    scores = score(
        split,
        classifier.labels,
        means[stack(split.test, classifier.labels)[1]],
        lambda x: classifier.predict(x).numpy(),
        classifier.features,
    )
    fid = {row["method"]: row["fid"] for row in scores.rows}
    assert (
        fid["real"] < 0.02 * fid["static neutral"]
        and fid["generated"] < fid["noisy class mean"] < 0.1 * fid["static neutral"]
    )


def test_a_state_that_cannot_be_continued_names_its_file(split, tmp_path):
    run_training(split, tmp_path, config={**TINY, "select": "test"})
    path = tmp_path / "models" / "x.last.pt"
    whole = torch.load(path, weights_only=True)
    whole["state"] = {**whole["state"], "finished": False, "epoch": 1}
    name = "lstm.weight_ih_l0"
    moments = whole["optimizer"]["state"]

    def state_of(number, **changes):
        return {"optimizer": {**whole["optimizer"], "state": {**moments, number: {**moments[0], **changes}}}}

    def group(**changes):
        return {
            "optimizer": {**whole["optimizer"], "param_groups": [{**whole["optimizer"]["param_groups"][0], **changes}]}
        }

    for change, words in (
        ({"model": {**whole["model"], name: whole["model"][name] / 0}}, f"model.{name} to be finite numbers"),
        ({"best_model": {**whole["model"], name: torch.full((), float("nan"))}}, f"best_model.{name} to be finite"),
        ({"model": {}}, "weights of this network as model"),
        ({"model": {**whole["model"], name: whole["model"][name].half()}}, "weights of this network as model"),
        (state_of(0, exp_avg=moments[0]["exp_avg"] / 0), r"optimizer.state\[0\].exp_avg to be finite"),
        (state_of(0, exp_avg_sq=torch.zeros(2)), r"optimizer.state\[0\].exp_avg_sq to be of the shape"),
        (state_of(99), r"optimizer.state\[99\]"),
        (
            {
                "optimizer": {
                    "state": {0: {"step": torch.tensor(1.0)}},
                    "param_groups": whole["optimizer"]["param_groups"],
                }
            },
            "exp_avg to be there",
        ),
        ({"optimizer": {}}, "optimizer.state to be there"),
        (group(lr=float("nan")), r"optimizer.param_groups\[0\].lr to be a finite number"),
        (group(betas=(0.9,)), "betas to be a list of 2"),
        (group(params=[0]), "optimizer.param_groups to be of"),
        ({"rng": {**whole["rng"], "data": whole["rng"]["data"][:-1]}}, "random numbers as rng.data"),
        ({"rng": {**whole["rng"], "torch": torch.zeros(10)}}, "rng.torch to be whole numbers"),
        ({"state": {**whole["state"], "epoch": -1}}, "state.epoch to be an integer"),
        ({"state": {**whole["state"], "finished": 1}}, "state.finished to be true or false"),
        ({"state": {**whole["state"], "best_score": "low"}}, "state.best_score to be a list"),
        ({"identity": None}, "identity to be a dictionary"),
    ):
        torch.save({**whole, **change}, path)
        with pytest.raises(InputError, match=words) as error:
            run_training(split, tmp_path, config={**TINY, "select": "test"}, resume=True)
        assert error.value.path == str(path)
