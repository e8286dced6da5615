"""Decoders with a closed form, fitted to training frames; the strength of regularisation is chosen on frames held out among them."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import nn

from face4d.constants import MM_PER_METRE
from face4d.dense.config import DenseConfig
from face4d.dense.decoders import WIDTH, LinearDecoder, NeutralDecoder, RbfDecoder
from face4d.dense.frames import DenseFrames
from face4d.dense.linear import (
    NormalEquations,
    choose_strength,
    distance_penalty,
    principal_map,
    regional_ridge,
    ridge,
)
from face4d.dense.protocol import Fold
from face4d.dense.rbf import interpolation_matrix

log = logging.getLogger(__name__)

CHOOSING_VERTICES = 128  # strengths are chosen on so many vertices, evenly over their numbers
CHOOSING_FRAMES = 3000  # and so many training frames, evenly in time
PRINCIPAL_FRAMES = 2000  # principal components come from so many frames: their products are N x N
DECADES = {"ridge": range(-8, 1), "pca": range(-8, 1), "regional": range(-7, 1)}
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
        parts = [self.targets(part, self.frames.vertices(part)[:, vertices]) for part in np.array_split(rows, -(-len(rows) // 64))]
        return np.concatenate(parts)


def _evenly(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def _fit_linear(config: DenseConfig, fold: Fold, quiet: bool) -> tuple[nn.Module, float]:
    train = fold.train
    neutral, extent = mean_face(train)
    decoder = LinearDecoder(train.num_vertices, size_aware=config.decoder == "regional" and config.size_aware)
    decoder.mean_extent.copy_(torch.from_numpy(extent))
    scaled = _ScaledFrames(decoder, train)
    mean_landmarks = train.neutral_landmarks()[np.unique(np.array(train.subjects), return_index=True)[1]].mean(axis=0)
    penalty = distance_penalty(neutral, mean_landmarks, config.reach_mm / MM_PER_METRE)  # (V, L)

    def solver(vertices: np.ndarray | slice):
        """Of the normal equations of some vertices."""
        if config.decoder == "ridge":
            return ridge
        return lambda equations, strength: regional_ridge(equations, strength, penalty[vertices])

    strength = config.strength
    if not strength:
        vertices, rows = _evenly(train.num_vertices, CHOOSING_VERTICES), _evenly(len(train), CHOOSING_FRAMES)

        def fit_some(inputs: np.ndarray, targets: np.ndarray):
            if config.decoder == "pca":
                rows = _evenly(len(inputs), PRINCIPAL_FRAMES)
                return principal_map(inputs[rows], targets[rows], config.components)
            equations = NormalEquations.of(inputs, targets)
            return lambda strength: solver(vertices)(equations, strength)

        targets = scaled.some_targets(rows, vertices)
        strength = choose_strength(fit_some, scaled.inputs[rows], targets, fold.groups[rows], DECADES[config.decoder])
        log.debug("%s: strength %g mm2", config.decoder, strength)

    if config.decoder == "pca":
        rows = _evenly(len(train), PRINCIPAL_FRAMES)
        weights = principal_map(scaled.inputs[rows], scaled.some_targets(rows), config.components)(strength)
    else:
        equations = NormalEquations.empty(WIDTH, 3 * train.num_vertices)
        for rows, moved in train.chunks(f"{config.decoder} {fold.name}", quiet):
            equations.add(scaled.inputs[rows], scaled.targets(rows, moved))
        weights = solver(slice(None))(equations, strength)
    decoder.weights.copy_(torch.from_numpy(weights))
    return decoder, strength


def _fit_rbf(config: DenseConfig, train: DenseFrames) -> tuple[nn.Module, float]:
    """Only the smoothing is chosen, on training frames of all sequences: nothing else is learnt, so none has to be held out."""
    decoder, smoothing = RbfDecoder(), config.strength
    if not smoothing:
        vertices, rows = _evenly(train.num_vertices, CHOOSING_VERTICES), _evenly(len(train), 500)
        wanted, landmarks = train.vertices(rows)[:, vertices], train.neutral_landmarks()
        errors = []
        for candidate in SMOOTHINGS_MM:
            total = 0.0
            for sequence in np.unique(train.sequence[rows]):
                own = train.sequence[rows] == sequence
                matrix = interpolation_matrix(landmarks[sequence], train.neutrals[sequence][vertices], candidate / MM_PER_METRE)
                moved = np.einsum("lv,blc->bvc", matrix, train.landmarks[rows[own]])
                total += float(np.linalg.norm(moved - wanted[own], axis=2).sum())
            errors.append(total)
        smoothing = SMOOTHINGS_MM[int(np.argmin(errors))]
    decoder.smoothing.fill_(smoothing / MM_PER_METRE)
    return decoder, smoothing
