"""Points of a face on the surface of a scan: it is drawn from several sides, the networks of photos find the face and
its points, and each is lifted to the surface that the picture shows there.

The same is done with the template, so that what the networks see differently from anatomy, they see on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.geometry import closest_points, fit_similarity, head_rotation
from face4d.mesh.plausibility import MEAN_FACE, face_size
from face4d.photos.face_detector import searches
from face4d.photos.face_networks import INSTALL, installed
from face4d.photos.face_points import NUM_POINTS, TO_68, FacePoints, find_points, points_in, refined
from face4d.photos.turned import TurnedSquare
from face4d.registration.nonrigid import Anchors
from face4d.registration.scan import Scan
from face4d.registration.template import Template
from face4d.render.clay import Framing, render_mesh
from face4d.render.zbuffer import rasterize

_SIZE = 448  # pixels of a picture
_DRAWN = 0.3  # metres: the size at which a scan is drawn, for its shading
_INNER = slice(17, 68)
_TURNS = ((0, 0), (-25, 0), (25, 0), (0, -15), (0, 15), (-40, 0), (40, 0))  # degrees about y and x
_FACING = 0.25  # least cosine between the surface and the viewer
_STEP = 0.15  # of the face's size: a point this near a jump in depth may lie on either side
_SURE = 0.4  # of the surest face's logit: what is seen on the back of a head has a tenth
_SHAPELESS = 0.3  # misfit to the mean face, in sizes of the face


@dataclass(frozen=True)
class SurfacePoints:
    """The 468 points on a surface.

    Attributes:
        points: (468, 3), in its unit.
        weights: (468,) 0..1: 0 where no view shows the point.
    """

    points: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class _View:
    """A picture of a scan.

    Attributes:
        rotation: (3, 3) from the scan to the camera: x right, y up, z to the viewer.
        framing: in the scan's unit.
        picture: (H, W, 3) float 0..1.
        depth: (H, W) in the scan's unit, from the viewer; infinite beside the scan.
        facing: (H, W) cosine between the surface and the viewer.
    """

    rotation: np.ndarray
    framing: Framing
    picture: np.ndarray
    depth: np.ndarray
    facing: np.ndarray

    def lift(self, pixels: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3) of the scan at pixels (N, 2), and weights (N,): 0 where there is no surface, or two."""
        size = len(self.depth)
        column, row = np.clip(np.rint(pixels).astype(int), 1, size - 2).T
        around = np.stack([self.depth[row + i, column + j] for i, j in product((-1, 0, 1), repeat=2)])
        there = np.isfinite(around).all(axis=0) & (np.abs(pixels - (size - 1) / 2) < size / 2 - 2).all(axis=1)
        around = np.where(there, around, 0.0)
        there &= np.ptp(around, axis=0) < step
        scale = 2 * self.framing.half_side / size
        x = self.framing.center[0] + (pixels[:, 0] - (size - 1) / 2) * scale
        y = self.framing.center[1] - (pixels[:, 1] - (size - 1) / 2) * scale
        placed = np.stack([x, y, -around[4]], axis=1) @ self.rotation
        return placed, np.where(there, np.clip(self.facing[row, column] - _FACING, 0, 1), 0.0)


def _look(scan: Scan, rotation: np.ndarray, framing: Framing | None = None, size: int = _SIZE) -> _View:
    turned = scan.vertices @ rotation.T
    if framing is None:
        low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
        middle = (low + high) / 2
        framing = Framing((float(middle[0]), float(middle[1])), float((high - low).max()) * 0.55)
    unit = _DRAWN / (2 * framing.half_side)
    shown = Framing((framing.center[0] * unit, framing.center[1] * unit), framing.half_side * unit)
    picture = render_mesh(
        turned * unit, scan.faces, size=size, framing=shown, supersample=1, background=(120, 120, 120)
    )
    scale = size / (2 * framing.half_side)
    screen = np.stack(
        [
            (size - 1) / 2 + (turned[:, 0] - framing.center[0]) * scale,
            (size - 1) / 2 - (turned[:, 1] - framing.center[1]) * scale,
            -turned[:, 2] * scale,
        ],
        axis=1,
    )
    face, bary, depth = rasterize(screen, scan.faces, size, size)
    toward = (scan.normals @ rotation.T)[:, 2]
    facing = np.where(face >= 0, (toward[scan.faces[face]] * bary).sum(axis=2), -1.0)
    return _View(rotation, framing, picture.astype(np.float64) / 255, depth / scale, facing)


def find_on_scan(path: str | Path, scan: Scan) -> SurfacePoints:
    """The face of a scan that may lie in any way.

    Raises:
        InputError: the networks are not installed, no face, or two of them; says that --landmarks is a way out.
    """
    if not installed():
        raise InputError(path, f"--landmarks FILE, or networks that find the face: {INSTALL}", "no networks")
    faces = (
        _faces_from(scan, _axes(), _large_faces)
        or _faces_from(scan, _diagonals(), _large_faces)
        or _faces_from(scan, _axes(), find_points)
    )
    if not faces:
        raise InputError(
            path, "a scan on whose surface a face can be seen, or --landmarks FILE with its 68 landmarks", "no face"
        )
    best = faces[0]
    for other in faces[1:]:
        apart = np.linalg.norm(other.middle - best.middle)
        if apart > 3 * best.size and 0.5 < other.size / best.size < 2 and other.logit > _SURE * best.logit:
            raise InputError(path, "a scan of one face, or --landmarks FILE with the landmarks of one", "two faces")
    return upright_points(scan, best.frame, best.middle, best.size) or best.found


@dataclass(frozen=True)
class _SeenFace:
    logit: float
    frame: np.ndarray  # (3, 3) from the scan to an upright face that looks along +z
    middle: np.ndarray
    size: float
    found: SurfacePoints


def _large_faces(picture: np.ndarray) -> list[FacePoints]:
    """Faces of a picture (H, W, 3) that fill a good part of it; looking for small ones takes ten times as long."""
    first = (points_in(picture, one.enlarged) for one in next(searches(picture)))
    return [face for one in first if one.is_face and (face := refined(picture, one)) is not None]


def _faces_from(
    scan: Scan, rotations: Iterable[np.ndarray], find: Callable[[np.ndarray], list[FacePoints]]
) -> list[_SeenFace]:
    """Faces seen from some sides, the surest first."""
    faces = []
    for rotation in rotations:
        view = _look(scan, rotation)
        for face in find(view.picture):
            seen = _seen(view, face)
            if seen is not None:
                faces.append(seen)
    return sorted(faces, key=lambda one: -one.logit)


def _seen(view: _View, face: FacePoints) -> _SeenFace | None:
    """A face of a view, lifted; None where what it lies on is not shaped as one."""
    pixel = 2 * view.framing.half_side / len(view.depth)
    step = _STEP * float(face_size(face.landmarks)) * pixel
    points, weights = view.lift(face.points[:, :2], step)
    on = weights[TO_68][_INNER] > 0
    if on.sum() < 30:
        return None
    inner, mean = points[TO_68][_INNER][on], MEAN_FACE[_INNER][on]
    fitted = fit_similarity(inner, mean)
    misfit = np.sqrt(((fitted.apply(inner) - mean) ** 2).sum(axis=1).mean())
    if misfit > _SHAPELESS:
        return None
    return _SeenFace(face.logit, fitted.rotation, inner.mean(axis=0), 1 / fitted.scale, SurfacePoints(points, weights))


def upright_points(scan: Scan, frame: np.ndarray, middle: np.ndarray, size: float) -> SurfacePoints | None:
    """The points of a face whose place is known about, from several sides in front of it.

    Args:
        frame: (3, 3) rotation from the scan to an upright face that looks along +z.
        middle: (3,) of the face.
        size: root mean square distance of its landmarks from their middle.

    Returns:
        None where the network sees no face there.
    """
    for _ in range(2):  # a first look from the front corrects the place
        found = _from_turn(scan, frame, middle, size, (0, 0))
        if found is None:
            return None
        seen, view = found
        better = _seen(view, seen)
        if better is None:
            return None
        frame, middle, size = better.frame, better.middle, better.size
    return _from_turns(scan, frame, middle, size, _TURNS)


def points_near(
    scan: Scan, landmarks: np.ndarray, turns: Sequence[tuple[float, float]] = _TURNS
) -> SurfacePoints | None:
    """The points of a face whose 68 landmarks (68, 3) are known about, as of a moment before.

    Args:
        turns: degrees to the side and up, from where to look.

    Returns:
        None where the network sees no face there.
    """
    inner = landmarks[_INNER]
    frame = fit_similarity(inner, MEAN_FACE[_INNER]).rotation
    return _from_turns(scan, frame, inner.mean(axis=0), float(face_size(landmarks)), turns)


def _from_turns(
    scan: Scan, frame: np.ndarray, middle: np.ndarray, size: float, turns: Sequence[tuple[float, float]]
) -> SurfacePoints | None:
    answers = [_from_turn(scan, frame, middle, size, turn) for turn in turns]
    lifted = [view.lift(face.points[:, :2], _STEP * size) for face, view in filter(None, answers)]
    if not lifted:
        return None
    return _combined(np.stack([one for one, _ in lifted]), np.stack([weight for _, weight in lifted]), size)


def _from_turn(
    scan: Scan, frame: np.ndarray, middle: np.ndarray, size: float, turn: tuple[float, float]
) -> tuple[FacePoints, _View] | None:
    rotation = head_rotation(*turn) @ frame
    center = rotation @ middle
    view = _look(scan, rotation, Framing((float(center[0]), float(center[1])), 2.6 * size))
    first = points_in(view.picture, TurnedSquare((_SIZE - 1) / 2, (_SIZE - 1) / 2, _SIZE * 0.8))
    face = refined(view.picture, first) if first.is_face else None
    return None if face is None else (face, view)


def _combined(points: np.ndarray, weights: np.ndarray, size: float) -> SurfacePoints:
    """Points (S, 468, 3) seen from S sides with weights (S, 468), as one: the mean of those near the median."""
    masked = np.where(weights[..., None] > 0, points, np.nan)
    seen = np.asarray((weights > 0).any(axis=0))
    median = np.zeros(points.shape[1:])
    median[seen] = np.nanmedian(masked[:, seen], axis=0)
    away = np.linalg.norm(points - median, axis=2)
    kept = weights / (1 + (away / (0.08 * size)) ** 4)
    total = kept.sum(axis=0)
    mean = np.where(seen[:, None], (kept[..., None] * points).sum(axis=0) / np.maximum(total, 1e-9)[:, None], median)
    spread = np.sqrt((kept * np.linalg.norm(points - mean, axis=2) ** 2).sum(axis=0) / np.maximum(total, 1e-9))
    return SurfacePoints(mean, np.where(seen, 1 / (1 + (spread / (0.05 * size)) ** 2), 0.0))


def view_anchors(path: str | Path, scan: Scan, template: Template) -> Anchors:
    """Points that the networks see on a scan and on the template, as anchors of a registration.

    Raises:
        InputError: the networks are not installed, or they see no face or two on the scan, or none on the template.
    """
    on_scan = find_on_scan(path, scan)
    landmarks = template.landmarks
    drawn = Scan.of(template.vertices, template.faces)
    on_template = upright_points(drawn, np.eye(3), landmarks[_INNER].mean(axis=0), float(face_size(landmarks)))
    if on_template is None:
        raise InputError(template.name, "a template on which the networks see a face, or --landmarks FILE", "no face")
    places = closest_points(on_template.points, template.vertices, template.faces)
    weights = np.sqrt(on_scan.weights * on_template.weights)
    use = np.flatnonzero(weights > 0.1)
    if len(use) < NUM_POINTS // 6:
        raise InputError(path, "a scan that shows most of a face, or --landmarks FILE", f"{len(use)} of its points")
    return Anchors(
        template.faces[places.face[use]].astype(np.int64), places.bary[use], on_scan.points[use], weights[use]
    )


def _axes() -> list[np.ndarray]:
    """Looks along the six axes; the detectors try four turns of each."""
    return [head_rotation(yaw, pitch) for yaw, pitch in ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90))]


def _diagonals() -> list[np.ndarray]:
    """Looks between the axes."""
    level = [head_rotation(yaw, 0) for yaw in (45, 135, 225, 315)]
    return level + [head_rotation(yaw, pitch) for yaw in range(0, 360, 45) for pitch in (-45, 45)]
