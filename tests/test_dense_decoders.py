"""Wiener filters of several sizes on landmark displacements."""

import numpy as np
import torch

from face4d.dense.decoders import LandmarkDenoiser


def faces(random, count):
    """Rest most of the time, strong motion along three directions at others; 12 coordinates."""
    size = np.where(random.random(count) < 0.6, 0.0, 4.0)
    return (size[:, None] * random.normal(size=(count, 3)) @ random.normal(size=(3, 12))).astype(np.float32)


def test_noise_goes_and_motion_stays():
    random = np.random.default_rng(0)
    clean = faces(random, 3000)
    noise = random.normal(0, 0.5, clean.shape).astype(np.float32)
    denoiser = LandmarkDenoiser(12).fit(torch.from_numpy(clean + noise), 0.25)
    found = denoiser(torch.from_numpy(clean + noise)).numpy()
    rest = np.abs(clean).max(axis=1) == 0
    assert np.square(found - clean)[rest].mean() < 0.05 * np.square(noise)[rest].mean()
    # three of twelve directions are motion
    assert np.square(found - clean)[~rest].mean() < 0.35 * np.square(noise)[~rest].mean()
    variance, directions = np.linalg.eigh((clean + noise).T @ (clean + noise) / len(clean))
    signal = np.maximum(variance - 0.25, 0)
    wiener = (clean + noise) @ directions * (signal / (signal + 0.25)) @ directions.T
    assert np.square(found - clean).mean() < 0.7 * np.square(wiener - clean).mean()  # one Gaussian for all does worse


def test_without_noise_nothing_changes():
    inputs = torch.randn(7, 12)
    assert torch.equal(LandmarkDenoiser(12)(inputs), inputs)
    assert torch.equal(LandmarkDenoiser(12).fit(inputs, 0.0)(inputs), inputs)


def test_what_was_fitted_is_saved():
    inputs = torch.from_numpy(faces(np.random.default_rng(1), 200))
    denoiser, other = LandmarkDenoiser(12).fit(inputs + torch.randn_like(inputs), 1.0), LandmarkDenoiser(12)
    other.load_state_dict(denoiser.state_dict())
    assert torch.equal(other(inputs), denoiser(inputs))
    assert abs(denoiser.log_weights.exp().sum().item() - 1) < 1e-5
