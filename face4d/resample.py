"""Sequences in time: the same motion with another number of frames.

Works on any sequence (T, ...), meshes (T, V, 3) and landmarks (T, 68, 3) alike. A plan says which input frames every
output frame is made of, so a mesh sequence can be resampled while it is read (:func:`stream`) without ever being in
memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """Output frame k is the sum over j of ``weights[k, j] * frame[indices[k, j]]``.

    Attributes:
        indices: (frames, J) int; in each row the first is the smallest, the last that counts is the largest; no column
            ever falls.
        weights: (frames, J) float64, each row sums to 1.
    """

    indices: np.ndarray
    weights: np.ndarray


def linear_plan(length: int, frames: int) -> Plan:
    """Equally spaced times over the whole sequence: t_k = k (length - 1) / (frames - 1), linear between the two frames
    around t_k.

    The first and the last frame are exact; one input frame is repeated; ``frames = 1`` gives the first frame.

    Raises:
        ValueError: ``length`` or ``frames`` below 1.
    """
    _check(length, frames)
    times = np.arange(frames) * (length - 1) / max(frames - 1, 1)
    left = np.minimum(times.astype(int), max(length - 2, 0))
    fraction = times - left
    indices = np.stack([left, np.minimum(left + 1, length - 1)], axis=1)
    return Plan(indices, np.stack([1 - fraction, fraction], axis=1))


def thesis_plan(length: int, frames: int) -> Plan:
    """Resampling of the thesis, defects included (kept for comparison; use :func:`linear_plan`).

    step = n // frames; output k = midpoint of frames k step and min((k + 1) step, n - 1), k = 0..frames - 1. A sequence
    of fewer than ``frames`` frames first gets 4 linearly interpolated frames in each interval: n = 5 (length - 1) + 1.

    Known defects: the integer step drops up to half of the sequence (80 frames to 41: only frames 0..41 are seen, so
    the return to the neutral face, or the apex, is lost); output frame 0 is not the neutral frame; motion is delayed by
    half a step.

    Raises:
        ValueError: ``length`` or ``frames`` below 1; too short to give a step of at least 1 even after the
            interpolation (fewer than 9 frames for 41).
    """
    _check(length, frames)
    factor = 1 if length >= frames else 5
    filled = (length - 1) * factor + 1
    step = filled // frames
    if step == 0:
        shortest = -(-(frames - 1) // 5) + 1
        raise ValueError(
            f"expected {shortest} frames or more for the thesis method with {frames} output frames, found {length}"
        )
    starts = np.arange(frames) * step
    ends = np.minimum(starts + step, filled - 1)
    indices, weights = [], []
    for filled_frames in (starts, ends):
        left = np.minimum(filled_frames // factor, max(length - 2, 0))
        fraction = filled_frames / factor - left
        indices += [left, np.minimum(left + 1, length - 1)]
        weights += [(1 - fraction) / 2, fraction / 2]
    return Plan(np.stack(indices, axis=1), np.stack(weights, axis=1))


def _check(length: int, frames: int) -> None:
    if length < 1 or frames < 1:
        raise ValueError(f"expected one frame or more in and out, found {length} in, {frames} out")


METHODS: dict[str, Callable[[int, int], Plan]] = {"linear": linear_plan, "thesis": thesis_plan}


def fill_plan(numbers: Sequence[int]) -> Plan:
    """Frames whose ``numbers`` (T,), rising, have holes to one frame for every number, linear in time between the two
    frames around a hole.
    """
    given = np.asarray(numbers)
    times = np.arange(given[0], given[-1] + 1)
    left = np.searchsorted(given, times, side="right") - 1
    right = np.minimum(left + 1, len(given) - 1)
    fraction = (times - given[left]) / np.maximum(given[right] - given[left], 1)
    return Plan(np.stack([left, right], axis=1), np.stack([1 - fraction, fraction], axis=1))


def compose(plan: Plan, filled: Plan) -> Plan:
    """The plan that makes of a plan's input at once what ``filled`` and then ``plan`` make of it."""
    indices = filled.indices[plan.indices].reshape(len(plan.indices), -1)  # (frames, J * 2)
    weights = (plan.weights[:, :, None] * filled.weights[plan.indices]).reshape(indices.shape)
    return Plan(indices, weights)


def resample_linear(sequence: np.ndarray, frames: int) -> np.ndarray:
    """Resample (T, ...) to (frames, ...) by :func:`linear_plan`; floating types are kept, integers become float64.

    Example:
        >>> resample_linear(np.array([0.0, 1.0, 4.0]), 5)
        array([0. , 0.5, 1. , 2.5, 4. ])
    """
    sequence = np.asarray(sequence)
    return _apply(sequence, linear_plan(len(sequence), frames))


def resample_thesis(sequence: np.ndarray, frames: int) -> np.ndarray:
    """Resample (T, ...) to (frames, ...) by :func:`thesis_plan`; floating types are kept, integers become float64."""
    sequence = np.asarray(sequence)
    return _apply(sequence, thesis_plan(len(sequence), frames))


def resample_cubic(sequence: np.ndarray, frames: int) -> np.ndarray:
    """Resample (T, ...) to (frames, ...) at the times of :func:`linear_plan` on a cubic spline through all frames (de
    Boor, A practical guide to splines, 1978, not-a-knot ends); floating types are kept, integers become float64.

    Speed and acceleration have no jumps, where linear interpolation has one of speed at every frame of the input.

    Example:
        >>> resample_cubic(np.array([0.0, 1.0, 4.0]), 5)
        array([0.  , 0.25, 1.  , 2.25, 4.  ])
    """
    sequence = np.asarray(sequence)
    _check(len(sequence), frames)
    if len(sequence) == 1:
        return resample_linear(sequence, frames)
    from scipy.interpolate import CubicSpline  # a quarter of a second that few commands need

    times = np.arange(frames) * (len(sequence) - 1) / max(frames - 1, 1)
    kind = sequence.dtype if sequence.dtype.kind == "f" else np.float64
    return CubicSpline(np.arange(len(sequence)), sequence)(times).astype(kind)


def _apply(sequence: np.ndarray, plan: Plan) -> np.ndarray:
    kind = sequence.dtype if sequence.dtype.kind == "f" else np.float64
    result = np.empty((len(plan.indices), *sequence.shape[1:]), kind)
    for k, frame in enumerate(stream(sequence.astype(kind, copy=False), plan)):
        result[k] = frame
    return result


def apply_plan(sequence: np.ndarray, plan: Plan) -> np.ndarray:
    """Output frames of an input (T, ...) that is in memory as a whole: the numbers of :func:`stream`, all frames at a
    time.
    """
    weights = plan.weights.astype(sequence.dtype).reshape(*plan.weights.shape, *[1] * (sequence.ndim - 1))
    result = sequence[plan.indices[:, 0]] * weights[:, 0]
    for column in range(1, plan.indices.shape[1]):
        result += sequence[plan.indices[:, column]] * weights[:, column]
    return result


def stream(sequence: Iterable[np.ndarray], plan: Plan) -> Iterator[np.ndarray]:
    """Output frames one by one from input frames one by one; keeps only the input frames still needed.

    The input is read to its end, also where the plan leaves the last frames out, so that every frame has been looked
    at.
    """
    source = enumerate(sequence)
    window: dict[int, np.ndarray] = {}
    newest = -1
    for indices, weights in zip(plan.indices.tolist(), plan.weights.tolist()):
        used = [(index, weight) for index, weight in zip(indices, weights) if weight]
        while newest < used[-1][0]:
            newest, frame = next(source)
            window[newest] = frame
        for index in [index for index in window if index < indices[0]]:
            del window[index]
        (index, weight), *others = used
        frame = window[index] * weight
        for index, weight in others:
            frame += window[index] * weight
        yield frame
    for _ in source:
        pass
