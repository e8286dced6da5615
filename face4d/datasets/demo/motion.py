"""How an expression unfolds in the demo: neutral, apex, neutral, at each subject's own pace and strength."""

from __future__ import annotations

import numpy as np

from face4d.datasets.demo.expressions import ACTION_UNITS, weights_of

__all__ = ["coma_length", "sequence_weights"]

_BLINK = ACTION_UNITS.index("lid_close")
_SHORTEST, _LONGEST = 24, 60


def coma_length(seed: int, subject: int, label: str) -> int:
    """Frames of a CoMA-shaped sequence: 24..60, about 41 on average."""
    return int(_generator(seed, subject, label, 1).integers(_SHORTEST, _LONGEST - 1))


def sequence_weights(seed: int, subject: int, label: str, frames: int) -> np.ndarray:
    """Action unit weights (T, 2, A) of one sequence; frame 0 is exactly neutral, the last nearly.

    Every unit rises and falls on its own slightly shifted curve; the apex comes at 36..60 % of the time, is held
    for a while, and reaches 0.85..1.15 of the label's weights. A person's two sides differ by a few percent,
    small tremor rides on what moves, and now and then an eye blinks.
    """
    person = np.random.default_rng([seed, 202, subject])
    sides = 1 + 0.06 * np.clip(person.standard_normal((2, len(ACTION_UNITS))), -2, 2)
    habit = 1 + 0.08 * np.clip(person.standard_normal(len(ACTION_UNITS)), -2, 2)
    draw = _generator(seed, subject, label, 2)
    strength = draw.uniform(0.85, 1.15)
    apex = draw.uniform(0.36, 0.60)
    hold = draw.uniform(0.12, 0.24)
    start = draw.uniform(0.0, 0.10)
    rest = draw.uniform(0.0, 0.03)
    lag = draw.uniform(-0.03, 0.03, len(ACTION_UNITS))
    time = np.linspace(0, 1, frames)[:, None]
    rise_from, rise_to = np.maximum(start + lag, 0), np.maximum(apex - hold / 2 + lag, 0.08)
    fall_from, fall_to = apex + hold / 2 + lag, np.minimum(0.97 + lag, 1.0)
    curve = _ease((time - rise_from) / (rise_to - rise_from)) * (1 - (1 - rest) * _ease((time - fall_from) / (fall_to - fall_from)))
    curve[0] = 0
    tremor = np.cumsum(draw.standard_normal((frames, 2, len(ACTION_UNITS))), axis=0)
    tremor = 0.012 * (tremor - np.linspace(0, 1, frames)[:, None, None] * tremor[-1])
    apex_weights = weights_of(label) * strength * habit * sides
    weights = apex_weights * (curve[:, None] + tremor * curve[:, None])
    if draw.uniform() < 0.45 and frames >= 20:
        weights[:, :, _BLINK] = np.maximum(weights[:, :, _BLINK], _blink(frames, draw.uniform(0.1, 0.9))[:, None])
    weights[0] = 0
    return weights


def _blink(frames: int, middle: float) -> np.ndarray:
    distance = np.abs(np.arange(frames) - middle * (frames - 1))
    return np.clip(1.2 - distance / 2.6, 0, 1)


def _ease(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * t * (t * (6 * t - 15) + 10)


def _generator(seed: int, subject: int, label: str, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, 303, purpose, subject, *label.replace("-", "_").encode()])
