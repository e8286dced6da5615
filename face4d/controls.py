"""Controls of a motion: when an expression begins, arrives, leaves and ends, and how strong it is.

An expression is described as in FACS coding (Ekman and Friesen, Facial Action Coding System, 1978): the onset leads
from neutral to the apex, the apex may be held, the offset leads back. What is measured is the activation, the
displacement along one direction, so that one number per frame says how far the face has come.
"""

from __future__ import annotations

import logging
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from face4d.errors import InputError

log = logging.getLogger(__name__)

# A flank is seen where the activation crosses these values; its largest is 1. Between them a flank that is a
# smoothstep, 3 u^2 - 2 u^3, has gone from u = FLANK_SEEN to u = 1 - FLANK_SEEN.
LOW, HIGH = 0.1, 0.9
FLANK_SEEN = 0.5 - np.sin(np.arcsin(1 - 2 * LOW) / 3)  # the u at which 3 u^2 - 2 u^3 = LOW


def smoothstep(share: Any) -> Any:
    """3 u^2 - 2 u^3 of numbers, arrays or tensors in 0..1: from 0 to 1 with no speed at either end."""
    return share * share * (3 - 2 * share)


@dataclass(frozen=True)
class Controls:
    """When and how strong, of N motions; every field is (N,) float, or a number for one motion. Times are frames from
    frame 0, not rounded, with 0 <= onset <= apex <= release <= offset.

    Attributes:
        onset: where the face leaves neutral.
        apex: where it arrives at its largest expression; the hold begins.
        release: where it leaves it; the hold ends. Equal to ``apex`` if nothing is held.
        offset: where it is neutral again, the last frame where it never is.
        strength: how far the apex reaches along the label's direction; 1 is the mean of its training sequences.
    """

    onset: np.ndarray
    apex: np.ndarray
    release: np.ndarray
    offset: np.ndarray
    strength: np.ndarray

    @property
    def peak(self) -> np.ndarray:
        """The middle of the hold, (N,) frames: the one number that says when the expression is there."""
        return (self.apex + self.release) / 2

    def array(self) -> np.ndarray:
        """(N, 5): onset, apex, release, offset in frames, strength."""
        return np.stack([np.asarray(value, np.float64) for value in astuple(self)], axis=-1)

    def stretched(self, factor: float) -> Controls:
        """The same with all times multiplied."""
        return Controls.of(self.array() * np.array([factor] * 4 + [1.0]))

    @classmethod
    def of(cls, array: np.ndarray) -> Controls:
        """The controls whose :meth:`array` is (N, 5)."""
        return cls(*np.moveaxis(np.asarray(array, np.float64), -1, 0))


def apex_displacements(displacements: np.ndarray) -> np.ndarray:
    """The displacement (N, L, 3) of each sequence's frame of the largest one, of (N, T + 1, L, 3), metres."""
    size = np.square(displacements, dtype=np.float64).sum(axis=(2, 3))  # (N, T+1)
    return displacements[np.arange(len(displacements)), size.argmax(axis=1)]


def label_directions(displacements: np.ndarray, labels: np.ndarray, num_labels: int) -> np.ndarray:
    """The direction of every label: the mean of its sequences' largest displacements.

    Args:
        displacements: (N, T + 1, L, 3) metres, from neutral.
        labels: (N,) class indices; a label without sequence gets the direction zero.

    Returns:
        (C, L, 3) metres.
    """
    largest = apex_displacements(displacements).astype(np.float64)  # (N, L, 3)
    directions = np.zeros((num_labels, *largest.shape[1:]))
    for label in np.unique(labels):
        directions[label] = largest[labels == label].mean(axis=0)
    return directions


def along(displacements: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """How far each frame x has come along a direction d: <x, d> / <d, d>.

    Args:
        displacements: (N, T, L, 3) metres.
        directions: (N, L, 3) metres, one for each sequence; all zero gives 0.

    Returns:
        (N, T), without unit.
    """
    count, frames = displacements.shape[:2]
    flat = np.asarray(directions, np.float64).reshape(count, -1)  # (N, 3L)
    product = np.einsum("ntd,nd->nt", displacements.reshape(count, frames, -1).astype(np.float64), flat)
    return product / np.maximum(np.square(flat).sum(axis=1), np.finfo(float).tiny)[:, None]


def find_controls(displacements: np.ndarray, directions: np.ndarray) -> Controls:
    """The controls of sequences.

    Times are read off the activation a(t), how far each frame has come along the sequence's own largest displacement,
    so they need no training set; its largest value is 1. The hold lies between the first and the last frame at HIGH,
    the onset is the last time before it at LOW, the offset the first time after it. Times of crossing are interpolated
    between frames, then continued as if the flank were a smoothstep: with a rise that is at LOW at time p and at HIGH
    at q, and d = (q - p) / (1 - 2 FLANK_SEEN), onset = p - d FLANK_SEEN and apex = q + d FLANK_SEEN; the offset flank
    alike. Exact for flanks of that shape, with and without a hold. Several peaks of at least HIGH are one motion with
    the hold from the first to the last of them; a lower one belongs to a flank.

    The strength is how far the largest displacement reaches along the label's direction; the mean over the sequences
    that the direction was made of is 1, and below 0 the sequence moves the other way.

    Args:
        displacements: (N, T + 1, L, 3) metres, from neutral, T >= 1. A sequence without motion has strength 0 and is
            held from frame 0 to T.
        directions: (N, L, 3) metres, the direction of each sequence's label, see :func:`label_directions`.

    Returns:
        (N,) of each; 0 <= onset <= apex <= release <= offset <= T.
    """
    largest = apex_displacements(displacements)
    activation = along(displacements, largest)  # (N, T+1)
    last = activation.shape[1] - 1
    still = activation.max(axis=1) <= 0
    highest = activation.argmax(axis=1)
    onset, apex = _flank(activation)
    back, release = _flank(activation[:, ::-1])
    return Controls(
        onset=np.where(still, 0, onset),
        apex=np.where(still, 0, np.minimum(apex, highest)),
        release=np.where(still, last, np.maximum(last - release, highest)),
        offset=np.where(still, last, last - back),
        strength=along(largest[:, None], directions)[:, 0],
    )


def _flank(activation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beginning and end (N,) of the first flank of activations (N, T + 1)."""
    rows, frames = np.arange(len(activation)), np.arange(activation.shape[1])
    reached = (activation >= HIGH).argmax(axis=1)  # the first frame at HIGH
    below = (activation <= LOW) & (frames < reached[:, None])
    left = np.where(below.any(axis=1), activation.shape[1] - 1 - below[:, ::-1].argmax(axis=1), -1)  # the last at LOW
    crossings = []
    for after, level in ((left + 1, LOW), (reached, HIGH)):
        before = np.maximum(after - 1, 0)
        a, b = activation[rows, before], activation[rows, after]
        share = np.clip((level - a) / np.where(b > a, b - a, 1), 0, 1)
        crossings.append(np.where(after > 0, before + share, 0.0))
    start, end = crossings
    duration = (end - start) / (1 - 2 * FLANK_SEEN)
    return np.maximum(start - FLANK_SEEN * duration, 0), end + FLANK_SEEN * duration


@dataclass(frozen=True)
class GivenControls:
    """Controls of one motion as far as somebody says them; None = left open.

    Attributes:
        onset, apex, offset: frames, as in :class:`Controls`.
        hold: frames from apex to release.
        strength: 1 = the label's mean.
    """

    onset: float | None = None
    apex: float | None = None
    hold: float | None = None
    offset: float | None = None
    strength: float | None = None

    @property
    def times(self) -> tuple[float, ...]:
        """The times that are given."""
        return tuple(time for time in (self.onset, self.apex, self.hold, self.offset) if time is not None)

    def impossible(self, last: int) -> str | None:
        """What cannot be, in words, in a motion of frames 0 to ``last``; None if all can. A flank takes a frame or
        more.
        """
        hold = self.hold or 0
        if self.onset is not None and self.apex is not None and self.apex < self.onset + 1:
            return f"apex {self.apex:g} with onset {self.onset:g}"
        if self.apex is not None and self.apex < 1:
            return f"apex {self.apex:g} with onset 0"
        end, of = (last, "the last frame") if self.offset is None else (self.offset, "offset")
        if end > last:
            return f"offset {end:g} after the last frame, {last}"
        first = self.apex if self.apex is not None else 1 + (self.onset or 0)
        if first + hold > end - (self.offset is not None):
            parts = [("onset", self.onset), ("apex", self.apex), ("hold", self.hold)]
            given = " and ".join(f"{name} {value:g}" for name, value in parts if value is not None) or "an apex"
            return f"{given} with {of} {end:g}"
        return None

    def require_possible(self, last: int) -> None:
        """Raise an :class:`InputError` for what cannot be, see :meth:`impossible`."""
        if (found := self.impossible(last)) is not None:
            flags = "--onset, --apex, --hold, --offset"
            raise InputError(flags, "onset + 1 <= apex, apex + hold + 1 <= offset <= last frame", found)


NOT_GIVEN = GivenControls()
MOST_STRENGTH = 10.0  # that may be asked for
SUDDEN = 0.05  # of the duration: a face takes longer from neutral to an expression, and back


def note_sudden(controls: Controls, last: int) -> None:
    """Log the flanks that are shorter than those of faces, of motions of frames 0 to ``last``."""
    for name, begin, end in (
        ("moves from onset to apex", controls.onset, controls.apex),
        ("is back from its release", controls.release, controls.offset),
    ):
        frames = np.min(np.where(np.asarray(begin) < last, np.subtract(end, begin), last))
        if frames < SUDDEN * last:
            log.warning("note: the face %s within %.3g of %d frames", name, frames, last)


RATIOS = ("apex", "onset", "hold", "offset", "strength")


def as_ratios(controls: Controls, last: int) -> np.ndarray:
    """Controls as five independent numbers: where each time lies in the room that the others leave it.

    Returns:
        (N, 5): apex / last, onset / apex, hold / (last - apex), (offset - release) / (last - release), all in 0..1, and
        the strength. 0 where there is no room.
    """
    onset, apex, release, offset, strength = controls.array().T
    parts = ((apex, last), (onset, apex), (release - apex, last - apex), (offset - release, last - release))
    return np.stack([*(a / np.where(b > 0, b, 1) * (b > 0) for a, b in parts), strength], axis=1)


def complete(ratios: np.ndarray, given: GivenControls, last: int) -> Controls:
    """The controls that are given, and those left open where their ratios put them, in the room that is left.

    Args:
        ratios: (N, 5), see :func:`as_ratios`.
        given: possible ones (:meth:`GivenControls.impossible`).
        last: frames are 0 to ``last``.

    Returns:
        (N,) of each, possible ones.
    """
    apex, onset, hold, offset, strength = np.asarray(ratios, np.float64).T
    first = 0.0 if given.onset is None else given.onset + 1
    end = float(last) if given.offset is None else given.offset - 1  # of the hold
    if given.apex is None:
        apex = np.maximum(first + apex * (end - (given.hold or 0) - first), 1)
    else:
        apex = np.full_like(apex, given.apex)
    onset = np.minimum(onset * apex, apex - 1) if given.onset is None else np.full_like(apex, given.onset)
    release = apex + (hold * (end - apex) if given.hold is None else given.hold)
    offset = release + offset * (last - release) if given.offset is None else np.full_like(apex, given.offset)
    return Controls(
        onset, apex, release, offset, strength if given.strength is None else np.full_like(apex, given.strength)
    )
