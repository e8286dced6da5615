"""Fitting of closed forms: what is chosen, and what the faces' size does."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.dense.config import DenseConfig
from face4d.dense.decode import DistanceSum, score
from face4d.dense.fit import fit, mean_face
from face4d.dense.frames import DenseFrames, Fold, inner_groups
from face4d.landmarks import LandmarkEmbedding, extract

FACES = np.array([[k, k + 1, k + 2] for k in range(70)], np.int32)  # a strip of 72 vertices
EMBEDDING = LandmarkEmbedding(np.arange(68), np.full((68, 3), 1 / 3), FACES, 72)


@dataclass(frozen=True)
class FramesInMemory(DenseFrames):
    """Frames whose vertices need no files."""

    moved: np.ndarray = field(default_factory=lambda: np.empty(0))

    def vertices(self, rows):
        noise = np.random.default_rng(9).normal(0, self.noise_mm * 1e-3, self.moved.shape)
        return (self.moved + noise).astype(np.float32)[np.asarray(rows)]

    def select(self, rows):
        return FramesInMemory(**{**vars(super().select(rows)), "moved": self.moved[rows]})


def strip(count: int, landmark_noise_mm: float = 0.0, sizes=(0.9, 1.0, 1.1, 1.2)) -> FramesInMemory:
    """Faces of some sizes, at rest in most frames, that move along eight directions of their own size in the others."""
    random = np.random.default_rng(0)
    neutral = random.normal(0, 0.05, (72, 3))
    modes = np.random.default_rng(1).normal(0, 0.003, (8, 72, 3))
    weights = random.normal(size=(count, 8)) * (random.random((count, 1)) < 0.3)
    subject = np.arange(count) * len(sizes) // count
    size = np.asarray(sizes)[:, None, None]
    moved = np.tensordot(weights, modes, 1) * size[subject]
    landmarks = extract(EMBEDDING, moved) + random.normal(0, landmark_noise_mm * 1e-3, (count, 68, 3))
    names = tuple(f"S{k}" for k in range(len(sizes)))
    neutrals = (neutral * size).astype(np.float32)
    paths = tuple(Path(f"{row}.ply") for row in range(count))
    return FramesInMemory(
        paths, subject, names, ("smile",) * len(sizes), neutrals, landmarks.astype(np.float32), EMBEDDING, moved=moved
    )


def fold_of(frames: FramesInMemory) -> Fold:
    test = frames.frame_subjects() == "S3"
    train = frames.select(np.flatnonzero(~test))
    return Fold("identity1", train, frames.select(np.flatnonzero(test)), inner_groups(train, "identity"))


def test_noise_is_expected_only_where_there_is_some(monkeypatch):
    monkeypatch.setattr("face4d.dense.fit.CHOOSING_VERTICES", 16)
    noisy, clean = fold_of(strip(480, 0.5)), fold_of(strip(480))
    config = DenseConfig(decoder="regional")
    on_noisy, strength = fit(config, noisy)
    on_clean, least = fit(config, clean)
    # truly 0.25 mm2; more also keeps faces at rest still
    assert on_noisy.denoiser.noise >= 0.1 and on_clean.denoiser.noise == 0
    assert least < strength
    without, _ = fit(DenseConfig(decoder="regional", denoise=False), noisy)
    assert score(on_noisy, noisy.test)["mm"] < 0.6 * score(without, noisy.test)["mm"]
    ridge, _ = fit(DenseConfig(decoder="ridge"), noisy)
    assert score(without, noisy.test)["mm"] < 1.15 * score(ridge, noisy.test)["mm"]


def test_faces_of_other_sizes_are_met_by_their_size():
    frames = strip(600, sizes=(0.9, 1.0, 1.1, 1.6))
    scaled = extract(EMBEDDING, frames.moved / np.array([0.9, 1.0, 1.1, 1.6])[frames.sequence][:, None, None])
    # not linear in the landmarks, but the same for all sizes
    bent = np.square(scaled / 0.003).mean(axis=(1, 2))[:, None, None] * 0.001
    frames = FramesInMemory(
        **{
            **vars(frames),
            "moved": frames.moved + bent * np.array([0.9, 1.0, 1.1, 1.6])[frames.sequence][:, None, None],
        }
    )
    fold = fold_of(frames)
    errors = {
        aware: score(fit(DenseConfig(strength=1e-6, size_aware=aware), fold)[0], fold.test)["mm"]
        for aware in (True, False)
    }
    assert errors[True] <= errors[False]
    decoder = fit(DenseConfig(strength=1e-6), fold)[0]
    neutral, extent = mean_face(fold.train)
    assert neutral.shape == (72, 3)
    np.testing.assert_allclose(decoder.mean_extent, extent)
    size = decoder.size(torch.from_numpy(fold.test.neutral_landmarks()[0]))
    np.testing.assert_allclose(size, 1.6, rtol=1e-4)  # the mean of the others is 1


@pytest.mark.parametrize("name", ["neutral", "ridge", "rbf", "pca", "regional"])
def test_scores_are_mean_and_deviation_over_all_vertices(name):
    fold = fold_of(strip(240))
    decoder, _ = fit(DenseConfig(decoder=name, strength=0.0 if name in ("neutral", "rbf") else 1e-4), fold)
    found = score(decoder, fold.test)
    vertices, landmarks = torch.from_numpy(fold.test.neutrals[0]), torch.from_numpy(fold.test.neutral_landmarks()[0])
    with torch.no_grad():
        decoded = decoder(torch.from_numpy(fold.test.landmarks), vertices, landmarks).numpy()
    distance = np.linalg.norm(decoded - fold.test.moved, axis=2) * 1000
    assert found["mm"] == pytest.approx(distance.mean(), rel=1e-4, abs=1e-6) and found["mm_std"] == pytest.approx(
        distance.std(), rel=1e-4, abs=1e-6
    )
    assert found["frames"] == 60 and "mm_noisy" not in found
    if name == "neutral":
        assert found["mm"] == pytest.approx(np.linalg.norm(fold.test.moved, axis=2).mean() * 1000, rel=1e-5)


def test_noisy_vertices_are_scored_beside_the_surface():
    fold = fold_of(strip(240))
    test = FramesInMemory(**{**vars(fold.test), "noise_mm": 0.3})
    found = score(fit(DenseConfig(strength=1e-8), fold)[0], test)
    # the mean length of such noise
    assert found["mm"] < 0.05 and found["mm_noisy"] == pytest.approx(0.3 * 1.596, rel=0.05)


def test_running_sums_are_those_of_the_whole():
    random = np.random.default_rng(3)
    found, wanted, total = random.normal(size=(50, 7, 3)), random.normal(size=(50, 7, 3)), DistanceSum()
    for part in np.array_split(np.arange(50), 4):
        total.add(found[part], wanted[part])
    distance = np.linalg.norm(found - wanted, axis=2) * 1000
    assert (total.count, total.mean, total.std) == (350, pytest.approx(distance.mean()), pytest.approx(distance.std()))


def test_a_configuration_without_a_fold_does_not_say_how_tests_are_scored():
    assert "test_frame_step" not in DenseConfig(fold=0, test_frame_step=2).as_dict()
    assert DenseConfig(fold=1, test_frame_step=2).as_dict()["test_frame_step"] == 2
