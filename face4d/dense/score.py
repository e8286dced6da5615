"""Errors of a decoder over frames that it has not seen."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from face4d.constants import MM_PER_METRE
from face4d.dense.frames import DenseFrames


@dataclass
class DistanceSum:
    """Running mean and standard deviation of Euclidean distances in millimetres, of any number of points."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """Add the distances of points (..., 3) in metres."""
        squared = np.square(found - wanted).sum(axis=-1) * np.float32(MM_PER_METRE**2)
        self.count += squared.size
        self.total += float(np.sqrt(squared).sum(dtype=np.float64))
        self.squares += float(squared.sum(dtype=np.float64))

    @property
    def mean(self) -> float:
        """Millimetres."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Population standard deviation over all single distances, millimetres."""
        return max(self.squares / self.count - self.mean**2, 0.0) ** 0.5


@torch.no_grad()
def score(decoder: nn.Module, frames: DenseFrames, *, device: torch.device | str = "cpu", quiet: bool = True) -> dict[str, float]:
    """Per-vertex Euclidean error over all vertices of all frames [S].

    With noise on the vertices, ``mm`` is the error against the surface without noise, which is what the decoder should find;
    ``mm_noisy`` is the one against the noisy vertices.

    Returns:
        ``mm``, ``mm_std``, ``frames``, ``ms_per_frame`` (decoding alone), and ``mm_noisy`` where there is noise on the vertices.
    """
    clean, noisy, seconds = DistanceSum(), DistanceSum(), 0.0
    neutrals, landmarks = torch.from_numpy(frames.neutrals).to(device), torch.from_numpy(frames.neutral_landmarks()).to(device)
    decoder.eval()
    for rows, wanted in frames.without_vertex_noise().chunks("scoring", quiet):
        noise = frames.vertices(rows) if frames.noise_mm else None
        for sequence in np.unique(frames.sequence[rows]).tolist():
            own = frames.sequence[rows] == sequence
            displacement = torch.from_numpy(frames.landmarks[rows[own]]).to(device)
            begun = time.perf_counter()
            found = decoder(displacement, neutrals[sequence], landmarks[sequence]).cpu().numpy()
            seconds += time.perf_counter() - begun
            clean.add(found, wanted[own])
            if noise is not None:
                noisy.add(found, noise[own])
    scores = {"mm": clean.mean, "mm_std": clean.std, "frames": len(frames), "ms_per_frame": 1000 * seconds / len(frames)}
    return scores | ({"mm_noisy": noisy.mean} if frames.noise_mm else {})
