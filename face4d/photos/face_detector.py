"""Faces in a photo by MediaPipe's detectors, at any roll: squares with six key points.

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019: a single-shot detector (Liu
et al., "SSD: Single Shot MultiBox Detector", ECCV 2016) with anchors of one size, whose overlapping answers are
averaged by score. Strides and anchors per cell are those documented in MediaPipe's graphs of face detection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np

from face4d.photos.crops import block_means
from face4d.photos.face_networks import load_network, sigmoid
from face4d.photos.turned import TurnedSquare

RIGHT_EYE, LEFT_EYE, NOSE, MOUTH = 0, 1, 2, 3  # key points, the subject's sides; then the ears
NUM_KEY_POINTS = 6
_NUMBERS = 4 + 2 * NUM_KEY_POINTS  # per anchor: middle, width, height, key points


@dataclass(frozen=True)
class Architecture:
    """A detector.

    Attributes:
        file: in the package.
        size: side of its picture, pixels.
        grids: (stride in pixels, anchors per cell) in the order of its outputs.
        score: least score of a face, as MediaPipe has it.
    """

    file: str
    size: int
    grids: tuple[tuple[int, int], ...]
    score: float

    def anchors(self) -> np.ndarray:
        """(A, 2) middles of the anchors, shares of the picture's side; all of the picture's size."""
        parts = []
        for stride, count in self.grids:
            steps = (np.arange(self.size // stride) + 0.5) * stride / self.size
            cells = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)  # row by row
            parts.append(np.repeat(cells, count, axis=0))
        return np.concatenate(parts)


# Layers of one stride share a grid, each with an anchor of its own size and one between it and the next layer's.
SHORT_RANGE = Architecture("face_detection_short_range.tflite", 128, ((8, 2), (16, 6)), 0.5)
FULL_RANGE = Architecture("face_detection_full_range.tflite", 192, ((4, 1),), 0.6)

DETECTORS = (FULL_RANGE, SHORT_RANGE)

_OVERLAP = 0.3  # intersection over union above which two answers are one face
_LEAST_TILE = 96  # pixels: parts of smaller photos show nothing that the whole does not
_LONGEST = 768  # pixels of the photo's longer side that detection needs: its smallest windows are a quarter of it
_BEYOND = 1.5  # a window larger than the photo, for faces that fill it


@dataclass(frozen=True)
class Detection:
    """A face that a detector has found.

    Attributes:
        score: 0..1.
        side: of its square, pixels.
        points: (7, 2) pixels: the six key points, then the square's middle.
    """

    score: float
    side: float
    points: np.ndarray

    @property
    def square(self) -> TurnedSquare:
        """Its square, turned upright by the eyes and the mouth: in profile the eyes alone are too close to tell."""
        eyes, (x, y) = self.points[[RIGHT_EYE, LEFT_EYE]], self.points[-1]
        across, down = eyes[1] - eyes[0], self.points[MOUTH] - eyes.mean(0)
        return TurnedSquare(float(x), float(y), self.side, float(np.arctan2(across[1] - down[0], across[0] + down[1])))

    @property
    def enlarged(self) -> TurnedSquare:
        """The square 1.5 times as large, as the landmark network wants it."""
        return replace(self.square, side=1.5 * self.side)


def searches(photo: np.ndarray) -> Iterator[list[Detection]]:
    """Where faces may be in a photo (H, W, 3) in 0..1, the best score first: in the whole of it, then, for small faces,
    in parts of half its size, then of a quarter.

    There is at most one answer per face, window, detector and turn, but they are not joined further: in a wrong turn a
    detector may see a face and its key points elsewhere.

    Raises:
        InputError: the networks are not installed; says how to install them.
    """
    if min(photo.shape[:2]) < max(photo.shape[:2]) // _LONGEST:
        return  # a line
    photo, scale = _shrunk(photo)
    height, width = photo.shape[:2]
    longest, middle = float(max(height, width)), ((width - 1) / 2, (height - 1) / 2)
    for parts in (1, 2, 4):
        side = longest / parts
        if parts > 1 and side < _LEAST_TILE:
            return
        found = detect(SHORT_RANGE, photo, TurnedSquare(*middle, longest * _BEYOND)) if parts == 1 else []
        for x, y in product(_middles(width, side), _middles(height, side)):
            found += [one for each in DETECTORS for one in detect(each, photo, TurnedSquare(x, y, side))]
        shift = (scale - 1) / 2  # the first mean of a block lies in the middle of it
        found = [Detection(one.score, one.side * scale, one.points * scale + shift) for one in found]
        yield sorted(found, key=lambda one: -one.score)


def detect(architecture: Architecture, photo: np.ndarray, square: TurnedSquare) -> list[Detection]:
    """What one detector finds in a square of a photo and in the same square turned by 90, 180 and 270 degrees."""
    anchors = _anchors(architecture)
    network = load_network(architecture.file, (len(anchors) * _NUMBERS, len(anchors)))
    picture, found = square.sample(photo, network.size) * 2 - 1, []
    for turns in range(4):
        turned = replace(square, roll=square.roll + turns * np.pi / 2)
        raw, logits = network(np.rot90(picture, turns))
        found += suppressed(_decode(architecture, anchors, raw, sigmoid(logits), turned))
    return found


def _decode(
    architecture: Architecture, anchors: np.ndarray, raw: np.ndarray, scores: np.ndarray, square: TurnedSquare
) -> list[Detection]:
    """A network's numbers as places of the photo: all are pixels of its picture, places relative to the anchor."""
    chosen = np.flatnonzero(scores >= architecture.score)  # NaN is not chosen
    rows = raw.reshape(-1, _NUMBERS)[chosen] / architecture.size
    places = np.concatenate([rows[:, 4:], rows[:, :2]], axis=1).reshape(-1, NUM_KEY_POINTS + 1, 2)
    points = square.to_photo(places + anchors[chosen, None])
    sides = rows[:, 2:4].max(axis=1) * square.side
    return [
        Detection(float(score), float(side), each)
        for score, side, each in zip(scores[chosen], sides, points)
        if side > 0 and np.isfinite(each).all()
    ]


def suppressed(found: Sequence[Detection]) -> list[Detection]:
    """One detection per face, the best first: of those that overlap the mean, weighted by score."""
    rest = sorted(found, key=lambda one: -one.score)
    kept = []
    while rest:
        same = [one for one in rest if overlap(one, rest[0]) > _OVERLAP] or rest[:1]
        weights = np.array([one.score for one in same])
        kept.append(
            Detection(
                rest[0].score,
                float(np.average([one.side for one in same], weights=weights)),
                np.average([one.points for one in same], axis=0, weights=weights),
            )
        )
        rest = [one for one in rest if all(one is not other for other in same)]
    return kept


def overlap(one: Detection, other: Detection) -> float:
    """Intersection over union of the two squares, both taken as upright."""
    apart = np.abs(one.points[-1] - other.points[-1])
    sides = np.clip((one.side + other.side) / 2 - apart, 0, min(one.side, other.side))
    shared = float(np.prod(sides))
    return shared / (one.side**2 + other.side**2 - shared)


@cache
def _anchors(architecture: Architecture) -> np.ndarray:
    return architecture.anchors()


def _middles(length: int, side: float) -> list[float]:
    """Middles of windows that cover a length, each overlapping the next by a quarter or more, which is as large as
    faces are that larger windows do not show.
    """
    if length <= side:
        return [(length - 1) / 2]
    count = int(np.ceil((length - side / 4) / (side * 3 / 4)))
    return [float(x) for x in np.linspace(side / 2, length - side / 2, count) - 0.5]


def _shrunk(photo: np.ndarray) -> tuple[np.ndarray, int]:
    """A photo at 1 / n of its size, whose longer side has fewer than twice ``_LONGEST`` pixels, and n."""
    block = max(max(photo.shape[:2]) // _LONGEST, 1)
    return (block_means(photo, block, "symmetric"), block) if block > 1 else (photo, 1)
