"""Whether landmarks move as those a decoder has learnt from: outside of that, its surface is a guess.

What was learnt is a box in the principal components of the training displacements: a decoder may combine and weaken
what it has seen. Of a new displacement d, the part of it that no point of the box reaches, over its size, is the share
that was never seen:

    share(d) = rms(d - nearest(d)) / (rms(d) + 1 mm)

with the root mean square over the 68 landmarks, in the size of the mean face; the millimetre keeps a face at rest from
counting. How large it is for people who were not seen, making faces that were, is measured by leaving training subjects
out in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from face4d.constants import MM_PER_METRE, NUM_LANDMARKS
from face4d.dense.decoders import WIDTH
from face4d.dense.frames import DenseFrames
from face4d.errors import InputError
from face4d.landmarks import extract
from face4d.runtime.checkpoint import array
from face4d.runtime.fields import Check, list_of, number, text

__all__ = ["LEARNT_FIELDS", "LearntMotion", "learn_motion", "note_extrapolation"]

log = logging.getLogger(__name__)

VARIANCE = 0.999  # of the training displacements, in the components kept
MOST_COMPONENTS = 64
GROUPS = 4  # of subjects that are left out in turn
ONE_SUBJECT = 0.3  # the share that unseen people reach, where only one was seen: as found on several data sets
_MOST_NAMED = 12
LEARNT_FIELDS: dict[str, Check] = {
    "directions": array(WIDTH, None),
    "low": array(None),
    "high": array(None),
    "extent": array(3),
    "limit": number(0, above=True),
    "labels": list_of(text, 1),
}


@dataclass(frozen=True)
class LearntMotion:
    """The landmark motion that a decoder has learnt from.

    Attributes:
        directions: (204, K) orthonormal, principal components of displacements in the size of the mean face.
        low, high: (K,) smallest and largest coefficient seen, millimetres; 0 between them.
        extent: (3,) of the mean face's landmarks, metres.
        limit: the share outside up to which people who were not seen may differ.
        labels: expressions seen.
    """

    directions: np.ndarray
    low: np.ndarray
    high: np.ndarray
    extent: np.ndarray
    limit: float
    labels: tuple[str, ...]

    def share_outside(self, displacements: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        """Share (T,) of each displacement (T, 68, 3) from neutral landmarks (68, 3), metres, that was never seen."""
        return _share(_rows(displacements, np.ptp(neutral, axis=0) / self.extent), self.directions, self.low, self.high)

    def as_record(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        arrays = {
            name: torch.from_numpy(getattr(self, name).astype(np.float32))
            for name in ("directions", "low", "high", "extent")
        }
        return {**arrays, "limit": self.limit, "labels": list(self.labels)}

    @classmethod
    def from_record(cls, content: dict[str, Any], path: str | Path) -> LearntMotion:
        """Of what :meth:`as_record` gave, its fields checked by :data:`LEARNT_FIELDS`.

        Raises:
            InputError: arrays that do not fit each other; names ``path``.
        """
        arrays = {name: content[name].numpy().astype(np.float64) for name in ("directions", "low", "high", "extent")}
        count = arrays["directions"].shape[1]
        if len(arrays["low"]) != count or len(arrays["high"]) != count or not (arrays["extent"] > 0).all():
            raise InputError(path, f"learnt: coefficients of {count} directions and a face with an extent", "others")
        return cls(**arrays, limit=content["limit"], labels=tuple(content["labels"]))


def learn_motion(frames: DenseFrames) -> LearntMotion:
    """What the landmarks of training frames do."""
    landmarks, subjects = frames.neutral_landmarks(), frames.frame_subjects()
    extents = np.ptp(landmarks, axis=1)  # (S, 3)
    names, first = np.unique(np.array(frames.subjects), return_index=True)
    extent = extents[first].mean(axis=0)
    rows = _rows(frames.landmarks, (extents / extent)[frames.sequence])  # (N, 204)
    shares = []
    for left_out in np.array_split(names, min(GROUPS, len(names))) if len(names) > 1 else ():
        unseen = np.isin(subjects, left_out)
        shares.append(_share(rows[unseen], *_box(rows[~unseen])).max())
    # the fewer people, the less their spread tells about others
    limit = max(shares, default=ONE_SUBJECT) * (1 + min(0.5, 2 / len(names)))
    return LearntMotion(*_box(rows), extent, max(float(limit), 1e-3), tuple(sorted(set(frames.labels))))


def note_extrapolation(decoder: Any, sequences: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Say in one line which sequences move unlike what the decoder has learnt from; nothing of decoders that do not
    tell what that was.

    Args:
        decoder: see :class:`face4d.dense.decode.DenseDecoder`.
        sequences: name, displacements (T, 68, 3) and neutral face (V, 3), metres.
    """
    learnt = getattr(decoder, "learnt", None)
    if learnt is None:
        return
    worst: dict[str, float] = {}
    for name, displacements, neutral in sequences:
        share = learnt.share_outside(displacements, extract(decoder.embedding, neutral)).max(initial=0.0)
        if share > learnt.limit:
            worst[name] = max(share / learnt.limit, worst.get(name, 0.0))
    if worst:
        outside = _listed(
            [f"{name} ({times:.1f} times)" for name, times in sorted(worst.items(), key=lambda item: -item[1])]
        )
        known = _listed(learnt.labels)
        log.warning(
            "note: %s has learnt from %s only; further from that than other people are: %s; "
            "there the surface is a guess",
            decoder.path,
            known,
            outside,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    )


def _rows(displacements: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(N, 204) millimetres in the size of the mean face, of displacements (N, 68, 3) in metres of faces of size (3,) or
    (N, 3).
    """
    return (MM_PER_METRE * np.asarray(displacements, np.float64) / np.maximum(size, 1e-3).reshape(-1, 1, 3)).reshape(
        -1, WIDTH
    )


def _box(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions (204, K), and smallest and largest coefficients (K,) of rows (N, 204); the face at rest is always
    among them.
    """
    variances, directions = np.linalg.eigh(rows.T @ rows)
    variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]
    kept = 1 + int(np.searchsorted(np.cumsum(variances), VARIANCE * variances.sum()))
    directions = directions[:, : min(kept, MOST_COMPONENTS)]
    coefficients = rows @ directions
    return directions, coefficients.min(axis=0).clip(max=0), coefficients.max(axis=0).clip(min=0)


def _share(rows: np.ndarray, directions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N,) see the module's formula."""
    coefficients = rows @ directions
    whole = (rows**2).sum(axis=1)
    beside = np.maximum(whole - (coefficients**2).sum(axis=1), 0) + (
        (coefficients - coefficients.clip(low, high)) ** 2
    ).sum(axis=1)
    return np.sqrt(beside / NUM_LANDMARKS) / (np.sqrt(whole / NUM_LANDMARKS) + 1)
