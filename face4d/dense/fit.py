"""Decoders with a closed form, fitted to training frames; the strength of regularisation is chosen on frames held out
among them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from face4d.constants import MM_PER_METRE
from face4d.dense.closed_form import (
    Decode,
    NormalEquations,
    choose_strength,
    distance_penalty,
    interpolation_matrix,
    principal_map,
    regional_ridge,
    ridge,
)
from face4d.dense.config import DenseConfig
from face4d.dense.decoders import WIDTH, LandmarkDenoiser, LinearDecoder, NeutralDecoder, RbfDecoder
from face4d.dense.frames import DenseFrames, Fold
from face4d.landmarks import extract

log = logging.getLogger(__name__)

CHOOSING_VERTICES = 96  # strengths are chosen on so many vertices, evenly over their numbers
CHOOSING_FRAMES = 2500  # and so many training frames, evenly in time
PRINCIPAL_FRAMES = 2000  # principal components come from so many frames: their products are N x N
DECADES = {"ridge": range(-8, 1), "pca": range(-8, 1), "regional": range(-7, 1)}
NOISES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # variances of landmark noise to try, square millimetres
SMOOTHINGS_MM = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def fit(config: DenseConfig, fold: Fold, *, quiet: bool = True) -> tuple[nn.Module, float]:
    """Fit one of the closed forms.

    Returns:
        The decoder and the strength used (the configuration's, or the one chosen; 0 for ``neutral``).
    """
    if config.decoder == "neutral":
        return NeutralDecoder(), 0.0
    if config.decoder == "rbf":
        return _fit_rbf(config, fold.train)
    return _fit_linear(config, fold, quiet)


def mean_face(frames: DenseFrames) -> tuple[np.ndarray, np.ndarray]:
    """Mean over subjects of the neutral vertices (V, 3) and of the extents (3,) of their landmarks; metres."""
    first = np.unique(np.array(frames.subjects), return_index=True)[1]
    neutral, landmarks = frames.neutrals[first], frames.neutral_landmarks()[first]
    return neutral.mean(axis=0, dtype=np.float64).astype(np.float32), np.ptp(landmarks, axis=1).mean(axis=0)


class _ScaledFrames:
    """Training frames as rows of millimetres, each divided by the size of its face."""

    def __init__(self, decoder: LinearDecoder, frames: DenseFrames) -> None:
        self.frames = frames
        size = decoder.size(torch.from_numpy(frames.neutral_landmarks())).numpy()  # (S, 3)
        self.scale = (MM_PER_METRE / size[frames.sequence]).astype(np.float32)  # (N, 3)
        self.inputs = (frames.landmarks * self.scale[:, None]).reshape(len(frames), -1)  # (N, 204)

    def targets(self, rows: np.ndarray, moved: np.ndarray) -> np.ndarray:
        return (moved * self.scale[rows][:, None]).reshape(len(rows), -1)

    def some_targets(self, rows: np.ndarray, vertices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(n, 3v) of some frames and vertices, in memory at once."""
        parts = [
            self.targets(part, self.frames.vertices(part)[:, vertices])
            for part in np.array_split(rows, -(-len(rows) // 64))
        ]
        return np.concatenate(parts)


def _evenly(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def linear_decoder(config: DenseConfig, num_vertices: int) -> LinearDecoder:
    """The module of ``ridge``, ``pca`` and ``regional``, not fitted."""
    regional = config.decoder == "regional"
    return LinearDecoder(num_vertices, size_aware=regional and config.size_aware, denoise=regional and config.denoise)


def _fit_linear(config: DenseConfig, fold: Fold, quiet: bool) -> tuple[nn.Module, float]:
    train = fold.train
    neutral, extent = mean_face(train)
    decoder = linear_decoder(config, train.num_vertices)
    decoder.mean_extent.copy_(torch.from_numpy(extent))
    scaled = _ScaledFrames(decoder, train)
    penalty = distance_penalty(neutral, extract(train.embedding, neutral), config.reach_mm / MM_PER_METRE)  # (V, L)
    strength, noise = config.strength, 0.0
    if not strength:
        vertices, rows = _evenly(train.num_vertices, CHOOSING_VERTICES), _evenly(len(train), CHOOSING_FRAMES)
        examples = scaled.inputs[rows], scaled.some_targets(rows, vertices), fold.groups[rows]
        strength, noise = _choose(config, decoder, penalty[vertices], *examples)
        log.debug("%s %s: strength %g mm2, landmark noise %g mm2", config.decoder, fold.name, strength, noise)

    if config.decoder == "pca":
        rows = _evenly(len(train), PRINCIPAL_FRAMES)
        weights = principal_map(scaled.inputs[rows], scaled.some_targets(rows), config.components)(strength)
    else:
        inputs = scaled.inputs
        if noise and isinstance(decoder.denoiser, LandmarkDenoiser):
            noisy = torch.from_numpy(inputs)
            inputs = decoder.denoiser.fit(noisy, noise)(noisy).numpy()
        equations = NormalEquations.empty(WIDTH, 3 * train.num_vertices)
        for rows, moved in train.chunks(f"{config.decoder} {fold.name}", quiet):
            equations.add(inputs[rows], scaled.targets(rows, moved))
        weights = (
            ridge(equations, strength) if config.decoder == "ridge" else regional_ridge(equations, strength, penalty)
        )
    decoder.weights.copy_(torch.from_numpy(weights))
    return decoder, strength


def _choose(
    config: DenseConfig,
    decoder: LinearDecoder,
    penalty: np.ndarray,
    inputs: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
) -> tuple[float, float]:
    """Strength and variance of landmark noise (square millimetres) that decode held-out groups best.

    The variance goes up from zero, where nothing is filtered, until two in a row are no better.

    Args:
        penalty: (v, L) of the vertices in ``targets`` (N, 3v).
    """

    def fit_some(inputs: np.ndarray, targets: np.ndarray, noise: float = 0.0) -> Callable[[float], Decode]:
        if config.decoder == "pca":
            rows = _evenly(len(inputs), PRINCIPAL_FRAMES)
            solve = principal_map(inputs[rows], targets[rows], config.components)
            return lambda strength: lambda seen: seen @ solve(strength)
        filtered = LandmarkDenoiser(WIDTH).fit(torch.from_numpy(inputs), noise) if noise else None

        def clean(seen: np.ndarray) -> np.ndarray:
            return seen if filtered is None else filtered(torch.from_numpy(seen)).numpy()

        equations = NormalEquations.of(clean(inputs), targets)
        if config.decoder == "ridge":
            return lambda strength: lambda seen: seen @ ridge(equations, strength)
        return lambda strength: lambda seen: clean(seen) @ regional_ridge(equations, strength, penalty)

    best, noise, worse = choose_strength(fit_some, inputs, targets, groups, DECADES[config.decoder]), 0.0, 0
    for candidate in NOISES if isinstance(decoder.denoiser, LandmarkDenoiser) else ():
        near = round(math.log10(best.strength))
        choice = choose_strength(partial(fit_some, noise=candidate), inputs, targets, groups, range(near - 2, near + 1))
        if choice.error < best.error:
            best, noise, worse = choice, candidate, 0
        elif (worse := worse + 1) == 2:
            break
    return best.strength, noise


def _fit_rbf(config: DenseConfig, train: DenseFrames) -> tuple[nn.Module, float]:
    """Only the smoothing is chosen, on training frames of all sequences: nothing else is learnt, so none has to be held
    out.
    """
    decoder, smoothing = RbfDecoder(), config.strength
    if not smoothing:
        vertices, rows = _evenly(train.num_vertices, CHOOSING_VERTICES), _evenly(len(train), 500)
        wanted, landmarks = train.vertices(rows)[:, vertices], train.neutral_landmarks()
        errors = []
        for candidate in SMOOTHINGS_MM:
            total = 0.0
            for sequence in np.unique(train.sequence[rows]):
                own = train.sequence[rows] == sequence
                matrix = interpolation_matrix(
                    landmarks[sequence], train.neutrals[sequence][vertices], candidate / MM_PER_METRE
                )
                moved = np.einsum("lv,blc->bvc", matrix, train.landmarks[rows[own]])
                total += float(np.linalg.norm(moved - wanted[own], axis=2).sum())
            errors.append(total)
        smoothing = SMOOTHINGS_MM[int(np.argmin(errors))]
    decoder.smoothing.fill_(smoothing / MM_PER_METRE)
    return decoder, smoothing
