"""When an expression comes and how strong it is, beside the real one's: the errors that a label alone leaves open."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import wasserstein_distance

from face4d.controls import apex_displacements, find_controls

STILL = 0.02  # of the label's mean largest displacement: below it a sequence has no apex
APEX_QUANTILES = (5, 50, 95)


class Timing(NamedTuple):
    """Of N sequences; :mod:`face4d.controls` defines both.

    Attributes:
        apex: (N,) frames from frame 0, the middle of the hold; NaN of a sequence that does not move.
        strength: (N,) largest displacement along the label's direction, 1 = mean of its training sequences.
    """

    apex: np.ndarray
    strength: np.ndarray


def timing(displacements: np.ndarray, directions: np.ndarray) -> Timing:
    """When and how strong sequences are.

    Args:
        displacements: (N, T+1, L, 3) metres.
        directions: (N, L, 3) metres, of each sequence's label (:func:`face4d.controls.label_directions`).
    """
    controls = find_controls(displacements, directions)
    faces = apex_displacements(displacements), directions
    largest, usual = (np.linalg.norm(face.reshape(len(face), -1), axis=1) for face in faces)
    return Timing(np.where(largest > STILL * usual, controls.peak, np.nan), controls.strength)


def timing_errors(found: Timing, wanted: Timing) -> dict[str, float | None]:
    """``apex_error``, mean |difference| of apex times in frames, and ``strength_error``, mean |difference| of
    strengths, of sequences and the real ones they are answers to. No apex error where one has no apex.
    """
    apart = np.abs(found.apex - wanted.apex)
    return {
        "apex_error": None if np.isnan(apart).any() else float(apart.mean()),
        "strength_error": float(np.abs(found.strength - wanted.strength).mean()),
    }


def timing_spread(found: Timing, known: Timing) -> dict[str, float]:
    """Quantiles of the apex times in frames, ``apex_q05``, ``apex_q50``, ``apex_q95``, of the sequences that move; mean
    and standard deviation of the strengths; and ``apex_distance``, how far the distribution of the apex times is from
    that of the training sequences: their first Wasserstein distance (Villani, Optimal transport, 2009), which is the
    mean distance of their quantiles in frames.

    Args:
        found: of any number of sequences; known: of the training sequences.
    """
    values = {"strength": float(found.strength.mean()), "strength_std": float(found.strength.std())}
    moving = found.apex[~np.isnan(found.apex)]
    if len(moving):
        values["apex_distance"] = float(wasserstein_distance(moving, known.apex[~np.isnan(known.apex)]))
        quantiles = np.percentile(moving, APEX_QUANTILES).tolist()
        values |= {f"apex_q{percent:02d}": value for percent, value in zip(APEX_QUANTILES, quantiles)}
    return values
