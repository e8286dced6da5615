"""Checkpoints and run records that version 0.1 wrote, one of every kind, tiny: they load, and their names are today's.

The large arrays of dense decoders, the encoder and the volume network hold a pattern in place of what was learned, so
that they compress. The generators and the classifier were trained on the toy sequences of tests/conftest.py.
"""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.classification.classifier import load_classifier
from face4d.datasets.landmark_set import LandmarkSplit, load_split
from face4d.deca.checkpoints import load_encoder
from face4d.dense.decode import load_decoder
from face4d.errors import InputError
from face4d.evaluation.run_records import read_runs
from face4d.generation.config import PRESETS, GeneratorConfig
from face4d.generation.sample import load_generator
from face4d.runtime.run_folder import Run
from face4d.vrn.reconstruction import load_volume_network
from tests.conftest import load_script, write_landmarks

EARLIER = Path(__file__).parent / "earlier"
LOADERS = {
    "coefficients": load_generator,
    "thesis": load_generator,
    "motion3dgan": load_generator,
    "motion3dgan_published": load_generator,
    "classifier": load_classifier,
    **{f"dense_{name}": load_decoder for name in ("neutral", "ridge", "rbf", "pca", "regional", "s2d")},
    "encoder": load_encoder,
    "vrn": load_volume_network,
}


def unpacked(name: str, folder: Path) -> Path:
    """A checkpoint in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    path.write_bytes(gzip.decompress((EARLIER / f"{name}.pt.gz").read_bytes()))
    return path


@pytest.mark.parametrize("name", LOADERS)
def test_a_checkpoint_loads_and_its_metrics_have_todays_names(name, tmp_path):
    path = unpacked(name, tmp_path)
    written = torch.load(path, weights_only=True)
    loaded = LOADERS[name](path)
    of_a_run = {"epoch", "epochs_trained", "seconds", "selected_by", "strength"}
    assert {key for key in loaded.metrics if "/" not in key} <= of_a_run
    scores = [value for key, value in loaded.metrics.items() if "/" in key]
    assert scores == [value for key, value in written["metrics"].items() if key not in {*of_a_run, "scored_on"}]
    assert not any("/" in key for key in written["metrics"])


def test_there_is_one_of_every_kind():
    assert {path.name.removesuffix(".pt.gz") for path in EARLIER.glob("*.pt.gz")} == {*LOADERS, "coefficients.last"}


def test_what_was_generated_is_generated(tmp_path):
    """Motion of the networks as it was: the plain engine on the weights of the file."""
    for name in ("coefficients", "thesis"):
        generator = load_generator(unpacked(name, tmp_path))
        moved = generator.generate(np.zeros((2, 68, 3), np.float32), np.array([0, 1]))
        generator.network.engine = "plain"
        plain = generator.generate(np.zeros((2, 68, 3), np.float32), np.array([0, 1]))
        np.testing.assert_allclose(moved, plain, atol=1e-7)
        assert moved.shape == (2, 9, 68, 3) and np.abs(moved).max() > 0


def test_names_of_curves_and_scores_become_todays(tmp_path):
    shutil.copytree(EARLIER / "runs", tmp_path / "runs")
    classifier, generator = read_runs(tmp_path / "runs")
    assert set(generator.curves) == {"train/loss", "test/mse", "test/l1", "test/mm", "test/mm_std"}
    assert set(classifier.curves) == {"train/loss", "train/accuracy", "test/accuracy", "test/loss"}
    assert generator.kept_score() == generator.metrics["test/mse"] == generator.curves["test/mse"][1][-1]
    assert classifier.metrics["test/accuracy"] == classifier.kept_score()


@pytest.fixture
def split(tmp_path) -> LandmarkSplit:
    """What the generators of this folder were trained on."""
    landmarks = write_landmarks(tmp_path / "landmarks", ("Happy", "Rage"), ("CH01", "CH03", "CH04"), 9)
    return load_split(landmarks, test_subjects=("CH01",))


def config(**settings) -> GeneratorConfig:
    return PRESETS["default"].with_settings(
        {"network": "coefficients", "hidden_size": 4, "components": 3, "epochs": 2, "validate_every": 1, **settings}
    )


def test_a_training_goes_on_and_one_that_is_finished_is_kept(tmp_path, split):
    run = Run("coefficients", tmp_path / "models", tmp_path / "runs", resume=True, quiet=True)
    kept = unpacked("coefficients", run.models)
    last = unpacked("coefficients.last", run.models)
    before = kept.read_bytes()
    train = load_script("main.py").train
    metrics = train(split, config(), run)
    assert metrics["test/mse"] > 0 and metrics["epochs_trained"] == 2 and kept.read_bytes() == before

    state = torch.load(last, weights_only=True)
    state["identity"]["config"]["epochs"] = 3  # a run that was meant to be longer
    state["state"]["finished"] = False
    torch.save(state, last)
    metrics = train(split, config(epochs=3), run)
    assert metrics["epochs_trained"] == 3 and kept.read_bytes() != before
    with pytest.raises(InputError, match="hidden_size = 5"):
        train(split, config(epochs=3, hidden_size=5), run)
