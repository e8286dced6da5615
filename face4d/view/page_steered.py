"""Generators that follow controls, as the page of moving heads runs them: weights, and how their coefficients move the
surface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from face4d.constants import MM_PER_METRE
from face4d.controls import Controls
from face4d.generation.controlled import STRENGTH_LIMIT, ControlledGenerator
from face4d.generation.sample import Generator
from face4d.view.page_codec import Encoded, pack

__all__ = ["MOST_BYTES", "pack_network", "runs_in_page", "surface_map", "typical_motions"]

MOST_BYTES = 1_500_000  # of a network's weights, uncompressed: beyond it the page leaves it out
STRENGTHS = (-0.5, 0.5, 1.0, 1.5, 2.0)  # that the map to the surface is fitted at
_FRAMES_BETWEEN = 3  # of the motions that it is fitted to


def runs_in_page(generator: Generator) -> bool:
    """Whether the page can run it: an LSTM with controls that is not too large."""
    network = generator.network
    return isinstance(network, ControlledGenerator) and 4 * sum(map(torch.numel, network.parameters())) <= MOST_BYTES


def pack_network(generator: Generator) -> dict[str, Any]:
    """What web/network.js needs to compute :meth:`face4d.generation.controlled.ControlledGenerator.forward`: labels,
    frames, weights, and the mean ratios of the controls that nobody gives (C, 5).
    """
    network = generator.network
    assert isinstance(network, ControlledGenerator)
    arrays = {name: value.detach().cpu().numpy() for name, value in network.named_parameters()}
    arrays |= {"basis": network.basis.cpu().numpy(), "scale": network.scale.cpu().numpy()}
    arrays["ratios"] = network.bank.mean(dim=1).cpu().numpy()
    return {
        "labels": list(generator.labels),
        "last": generator.frames - 1,
        "strength_limit": STRENGTH_LIMIT,
        "weights": {name: pack(value) for name, value in arrays.items()},
    }


@torch.no_grad()
def typical_motions(generator: Generator) -> np.ndarray:
    """Motions of all labels at several strengths and times: what the page's surface has to be able to show.

    Returns:
        (N, 68, 3) displacements, metres, of single frames.
    """
    last, labels = generator.frames - 1, np.arange(len(generator.labels))
    network = generator.network
    assert isinstance(network, ControlledGenerator)
    ratios = network.bank.mean(dim=1).cpu().numpy()  # (C, 5)
    apex = np.clip(ratios[:, 0] * last, 2, last)
    given = []
    for number, strength in enumerate(STRENGTHS):
        peak = np.clip(apex * (0.6, 1.0, 1.0, 1.4, 0.8)[number], 2, 0.8 * last)
        release = peak + (0.0, 0.0, 0.3, 0.0, 0.6)[number] * (last - peak)
        end, size = np.full_like(peak, last), np.full_like(peak, strength)
        given.append(Controls(peak * ratios[:, 1], peak, release, end, size))
    controls = Controls.of(np.concatenate([one.array() for one in given]))
    indices = np.tile(labels, len(given))
    moved = generator.generate(np.zeros((len(indices), generator.num_landmarks, 3)), indices, controls=controls)
    return moved[:, ::_FRAMES_BETWEEN].reshape(-1, *moved.shape[2:])


@torch.no_grad()
def surface_map(
    generator: Generator, encoded: Encoded, landmarks: np.ndarray, surfaces: np.ndarray
) -> tuple[np.ndarray, float]:
    """How the generator's coefficients z (face4d.generation.recurrence) become weights of the page's components.

    Args:
        encoded: the components.
        landmarks: (N, 68, 3) displacements, metres; surfaces: (N, V, 3), what the decoder makes of them on one face.

    Returns:
        (Kg, K) float32, and the largest distance of a vertex from where the decoder puts it, millimetres: that of the
        components and, with a decoder that is not linear, of the map.
    """
    network = generator.network
    assert isinstance(network, ControlledGenerator)
    codes = network.encoded(torch.as_tensor(landmarks).float()).double().numpy()  # (N, Kg)
    weights = encoded.project(surfaces)  # (N, K)
    # nothing moves where z is zero, so there is no constant; coefficients that are never used stay without effect
    matrix = np.linalg.lstsq(codes, weights, rcond=1e-8)[0].astype(np.float32)  # (Kg, K)
    shown = (codes.astype(np.float32) @ matrix) @ encoded.components.reshape(len(encoded.components), -1)
    rest = shown.reshape(surfaces.shape) - surfaces * MM_PER_METRE
    return matrix, float(np.linalg.norm(rest, axis=2).max())
