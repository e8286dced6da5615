"""What enters is looked at once: are these points a face in metres, the right way round, and do they move as a face
does.

What cannot be right is an error. What is merely odd is a remark: one line names all files of a folder that it holds
for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from face4d.constants import MM_PER_METRE, NUM_LANDMARKS
from face4d.errors import InputError
from face4d.runtime.arrays import load_numbers

log = logging.getLogger(__name__)

# Root mean square distance of the 68 landmarks from their middle, metres: 0.053 to 0.063 over real faces (Florence 4D,
# CoMA) and the demo, in all expressions; a newborn's is 0.6 of that, an expression at three times its intensity 1.5 of
# it. Landmarks of norm 1 (0.121) are none in metres.
FACE_SIZE, FACE_SIZES = 0.058, (0.025, 0.115)
# Longest side of the bounding box of a head or a scan, metres: a face alone 0.2, with neck 0.35, with shoulders 0.6.
HEAD_SIZE, HEAD_SIZES, BODY_SIZE = 0.3, (0.08, 0.8), 3.0
EYES_APART, EYES_RANGE = 0.095, (0.045, 0.2)  # between the outer corners, metres

# in metres
UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254, "micrometres": 1e-6, "kilometres": 1e3}

STILL = 1e-5  # metres: less is rounding, no motion
# Metres between neighbouring frames, mean and largest. The lower lip of the widest open mouth is 0.06 below that of the
# closed one.
JUMP, LEAP = 0.05, 0.08
_OTHER_UNIT = 8.0  # times larger or smaller than frame 0: no expression, at whatever intensity
_TURNED = 45.0  # degrees
# misfit, in sizes of the face: real faces 0.16 to 0.25, at three times their intensity 0.47, points in disorder 0.95
_NO_FACE = 0.75
# misfit of the mirrored face at most, and at most this share of that of the face as it is (real ones 0.24 to 0.6)
_MIRRORED = 0.5, 0.7

# The demo's mean face, right side and middle line: (landmark, its partner on the left, x, y, z) in millimetres.
_RIGHT_HALF = (
    (0, 16, -73, 33, -40), (1, 15, -67, 15, -36), (2, 14, -63, -4, -34), (3, 13, -59, -21, -32), (4, 12, -53, -37, -26),
    (5, 11, -45, -50, -18), (6, 10, -31, -62, -7), (7, 9, -15, -71, 0), (8, 8, 0, -74, 3), (17, 26, -53, 55, -6),
    (18, 25, -45, 59, 4), (19, 24, -34, 60, 11), (20, 23, -22, 59, 14), (21, 22, -10, 56, 15), (27, 27, 0, 41, 14),
    (28, 28, 0, 30, 19), (29, 29, 0, 18, 26), (30, 30, 0, 2, 34), (31, 35, -14, -8, 17), (32, 34, -7, -9, 15),
    (33, 33, 0, -11, 16), (36, 45, -47, 38, -11), (37, 44, -40, 42, -6), (38, 43, -26, 41, -3), (39, 42, -18, 35, -6),
    (40, 47, -26, 32, -3), (41, 46, -40, 33, -5), (48, 54, -21, -29, 6), (49, 53, -14, -25, 12), (50, 52, -5, -23, 14),
    (51, 51, 0, -24, 14), (59, 55, -14, -35, 11), (58, 56, -6, -38, 11), (57, 57, 0, -39, 11), (60, 64, -20, -29, 7),
    (61, 63, -7, -29, 9), (62, 62, 0, -30, 9), (67, 65, -7, -29, 9), (66, 66, 0, -30, 9),
)  # fmt: skip


def _mean_face() -> np.ndarray:
    """(68, 3), middle 0, size 1."""
    points = np.empty((68, 3))
    for right, left, x, y, z in _RIGHT_HALF:
        points[right], points[left] = (x, y, z), (-x, y, z)
    points -= points.mean(axis=0)
    return points / np.sqrt((points**2).sum(axis=1).mean())


MEAN_FACE = _mean_face()


NO_FACE = (
    "68 points that are no face in the order jaw, brows, nose, eyes, mouth (another set of landmarks, "
    "or another topology?)"
)
LYING = "a face that does not stand upright (y up) and look along +z as those of CoMA and FLAME"


class Remark(NamedTuple):
    """Something odd: what, and the name of what it was found at."""

    what: str
    where: str


def grouped(remarks: Iterable[Remark], most: int) -> Iterator[tuple[str, int, str]]:
    """Remarks of one kind together: what, at how many places, and the names of the first ``most`` of them."""
    found: dict[str, dict[str, None]] = {}
    for what, where in remarks:
        found.setdefault(what, {})[where] = None
    for what, places in found.items():
        more = f" and {len(places) - most} more" if len(places) > most else ""
        yield what, len(places), ", ".join(list(places)[:most]) + more


def report(root: str | Path, remarks: Iterable[Remark]) -> None:
    """Log one line for everything odd that was found below ``root``."""
    for what, _, named in grouped(remarks, 3):
        log.warning("note: %s: %s", root, what + (f": {named}" if named and named != str(root) else ""))


def as_float32(path: str | Path, points: np.ndarray) -> np.ndarray:
    """Coordinates (..., 3) as float32, which is what all models compute in.

    Raises:
        InputError: NaN, infinity, or a number that float32 cannot hold.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(points).astype(np.float32, copy=False)
    finite = np.isfinite(single)
    if not finite.all():
        bad = tuple(int(k) for k in np.argwhere(~finite)[0])
        raise InputError(
            path, "finite coordinates (within single precision)", f"{float(np.asarray(points)[bad]):g} at {list(bad)}"
        )
    return single


def read_face(path: str | Path, dimensions: Sequence[int] = (2, 3), least: int = 1) -> np.ndarray:
    """Landmarks of an npy file, metres.

    Args:
        dimensions: 2 for one face (68, 3), 3 for a sequence (T, 68, 3).
        least: frames of a sequence.

    Returns:
        float32, of the shape in the file.

    Raises:
        InputError: not a finite numeric array of such a shape, or no face in metres, in any frame.
    """
    shapes = {2: f"({NUM_LANDMARKS}, 3)", 3: f"(frames, {NUM_LANDMARKS}, 3)"}
    expected = f"a {' or '.join(shapes[number] for number in dimensions)} array of finite numbers"
    expected += f", {least} frames or more" if least > 1 else ""
    array = load_numbers(path, expected)
    if array.ndim not in dimensions or array.shape[-2:] != (NUM_LANDMARKS, 3) or len(array) < least:
        raise InputError(path, expected, f"shape {array.shape} of {array.dtype}")
    points = as_float32(path, array)
    check_face(path, points)
    if points.ndim == 3:
        check_frames(path, points)
    return points


def unit_of(size: float, typical: float, sizes: tuple[float, float]) -> tuple[str, float] | None:
    """Name and metres of the unit that makes ``size`` plausible, the one that makes it most typical; None where none
    does.
    """
    fits = [
        (name, metres) for name, metres in {"metres": 1.0, **UNITS}.items() if sizes[0] <= size * metres <= sizes[1]
    ]
    return min(fits, key=lambda unit: abs(np.log(size * unit[1] / typical)), default=None)


def check_size(
    path: str | Path, size: float, typical: float, sizes: tuple[float, float], what: str, where: str = ""
) -> None:
    """Refuse a size that is not that of a face in metres.

    Args:
        size: of what was found, in the file's unit.
        typical, sizes: metres: what it should be about, and least and most.
        what: what is that large, for the error.
        where: before what was found (``frame 3 ``).

    Raises:
        InputError: names the unit and the factor that makes metres of it.
    """
    if sizes[0] <= size <= sizes[1]:
        return
    expected = f"a face in metres ({what} about {typical:g})"
    if not size > 0:
        raise InputError(path, expected, f"{where}all points in one place")
    unit = unit_of(size, typical, sizes)
    if unit is None:
        raise InputError(path, expected, f"{where}{size:.4g}: {size / typical:.3g} times as large")
    raise InputError(path, expected, f"{where}{size:.4g}: {unit[0]} (times {unit[1]:g} gives metres)")


def face_size(landmarks: np.ndarray) -> np.ndarray:
    """Root mean square distance (...) of landmarks (..., L, 3) from their middle."""
    around = landmarks - landmarks.mean(axis=-2, keepdims=True)
    return np.sqrt(np.einsum("...lk,...lk->...", around, around) / landmarks.shape[-2])


def check_face(path: str | Path, landmarks: np.ndarray) -> None:
    """Refuse landmarks (68, 3), or (T, 68, 3) of which frame 0 is looked at, that cannot be a face in metres.

    Raises:
        InputError: another unit, all in one place, or mirrored.
    """
    sequence = landmarks.ndim == 3
    face = (landmarks[0] if sequence else landmarks).astype(np.float64)
    check_size(
        path,
        float(face_size(face)),
        FACE_SIZE,
        FACE_SIZES,
        "landmarks' mean distance from their middle",
        "frame 0 " if sequence else "",
    )
    _, misfit, mirrored = shape_of(face)
    if mirrored < min(_MIRRORED[0], _MIRRORED[1] * misfit):
        raise InputError(
            path,
            "a face with its left on +x where its landmarks have it (right-handed axes)",
            "a face mirrored left to right",
        )


def check_frames(path: str | Path, landmarks: np.ndarray) -> None:
    """Refuse landmarks (T, 68, 3) that change their unit on the way.

    Raises:
        InputError: names the first such frame.
    """
    sizes = face_size(landmarks.astype(np.float64))
    odd = (sizes * _OTHER_UNIT < sizes[0]) | (sizes > _OTHER_UNIT * sizes[0])
    if odd.any():
        frame = int(odd.argmax())
        check_size(
            path,
            float(sizes[frame]),
            FACE_SIZE,
            FACE_SIZES,
            "landmarks' mean distance from their middle",
            f"frame {frame} ",
        )


def shape_of(face: np.ndarray) -> tuple[float, float, float]:
    """How landmarks (68, 3) lie to a mean face that is upright and looks along +z.

    Returns:
        The angle in degrees by which the face is turned; the root mean square distance from the mean face aligned to
        it, and from the mirrored mean face, both in sizes of the face: 0 the same, 1 nothing in common.
    """
    return _shape_of(np.ascontiguousarray(face, np.float64).tobytes())


@lru_cache(maxsize=1)  # first it decides, then it is remarked upon
def _shape_of(face: bytes) -> tuple[float, float, float]:
    points = np.frombuffer(face).reshape(-1, 3)
    points = points - points.mean(axis=0)
    product = points.T @ MEAN_FACE / (len(points) * math.sqrt(np.vdot(points, points) / len(points)))
    left, (first, second, third), right = np.linalg.svd(product)
    hand = 1.0 if np.linalg.det(product) > 0 else -1.0
    rotation = (left * [1, 1, hand]) @ right
    fits = first + second + hand * third, first + second - hand * third  # cosines: as it is, mirrored
    angle = math.degrees(math.acos(min(max((np.trace(rotation) - 1) / 2, -1), 1)))
    return angle, math.sqrt(max(0.0, 1 - fits[0] ** 2)), math.sqrt(max(0.0, 1 - fits[1] ** 2))


def face_remarks(name: str, face: np.ndarray) -> list[Remark]:
    """What is odd about landmarks (68, 3): no face in the usual order, or one that lies down or looks away."""
    angle, misfit, _ = shape_of(face.astype(np.float64))
    if misfit > _NO_FACE:
        return [Remark(NO_FACE, name)]
    if angle > _TURNED:
        return [Remark(LYING, f"{name} (turned by {angle:.0f} degrees)")]
    return []


def is_still(points: np.ndarray) -> bool:
    """Whether nothing moves in (T, N, 3), metres."""
    return bool(np.abs(points - points[:1]).max() < STILL)


def first_jump(points: np.ndarray) -> tuple[int, float] | None:
    """The first frame of (T, N, 3) farther from the frame before than a face moves, and its largest step in metres;
    None without one.
    """
    steps = np.diff(points, axis=0)
    steps = np.sqrt(np.einsum("tnk,tnk->tn", steps, steps))  # (T - 1, N)
    jumps = (steps.mean(axis=1) > JUMP) | (steps.max(axis=1, initial=0) > LEAP)
    if not jumps.any():
        return None
    frame = int(jumps.argmax())
    return frame + 1, float(steps[frame].max())


def check_jumps(paths: Sequence[str | Path], points: np.ndarray) -> None:
    """Refuse frames (T, N, 3) of which one is far from the one before.

    Args:
        paths: of the frames.
        points: metres, the same in every frame (landmarks, some vertices).

    Raises:
        InputError: names the first such frame.
    """
    if (jump := first_jump(points)) is None:
        return
    frame, away = jump
    before, size = face_size(points[frame - 1 : frame + 1].astype(np.float64))
    found = f"one {MM_PER_METRE * away:.0f} mm off"
    if not size > 0:
        found = "all of them in one place"
    elif not 1 / _OTHER_UNIT < size / before < _OTHER_UNIT:
        found += f", the whole {size / before:.3g} times as large (another unit?)"
    raise InputError(paths[frame], f"points near those of {Path(paths[frame - 1]).name}", found)


def stillness(name: str, frames: int) -> Remark:
    """A sequence of so many frames in which nothing moves."""
    return Remark("nothing moves", f"{name} ({frames} frame{'s' * (frames > 1)})")


def motion_remarks(name: str, points: np.ndarray) -> list[Remark]:
    """What is odd about the motion of (T, N, 3), metres."""
    if is_still(points):
        return [stillness(name, len(points))]
    if jump := first_jump(points):
        return [Remark("jumps", f"{name} (at frame {jump[0]} by {MM_PER_METRE * jump[1]:.0f} mm)")]
    return []


def check_head(path: str | Path, vertices: np.ndarray, *, body: bool = False) -> None:
    """Refuse the vertices (V, 3) of a head or scan without landmarks that cannot be in metres.

    Args:
        body: there may be a whole body to the head.

    Raises:
        InputError: another unit, or all in one place.
    """
    sizes = (HEAD_SIZES[0], BODY_SIZE if body else HEAD_SIZES[1])
    check_size(path, float(np.ptp(vertices, axis=0).max()), HEAD_SIZE, sizes, "a head's longest side")
