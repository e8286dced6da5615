"""Reconstructed meshes against scans, in the manner of the NoW protocol: files that belong together, and distances.

Sanyal et al., "Learning to Regress 3D Face Shape and Expression from an Image without 3D Supervision", CVPR 2019: the
mesh is aligned to the scan by a similarity on seven landmarks; every point of the scan's face is measured to the
closest point of the mesh's surface; median, mean and standard deviation over all points of all scans. One direction
only: what the mesh has beyond the scan costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.landmarks import extract, load_embedding, load_flame_embedding
from face4d.mesh.geometry import Similarity, closest_points, fit_similarity
from face4d.mesh.plausibility import EYES_APART, EYES_RANGE, UNITS, as_float32, check_size, unit_of
from face4d.mesh.sequence import MESH_SUFFIXES
from face4d.mesh.triangles import check_topology
from face4d.runtime.arrays import load_numbers
from face4d.runtime.files import has_suffix, is_hidden

log = logging.getLogger(__name__)

# outer and inner corner of the right eye, inner and outer corner of the left eye, under the nose, right and left corner
# of the mouth
SEVEN = (36, 39, 42, 45, 33, 48, 54)  # of the 68 landmarks; right and left are the subject's
FACE_RADIUS = 1.4  # of the measured part of a scan
_SETTLED = 1e-4  # of the mean distance: refinement ends when it improves less


@dataclass(frozen=True)
class ScanDistance:
    """Distances of one scan, millimetres, and how the mesh was aligned to it."""

    distances: np.ndarray  # (N,) of the scan's points
    similarity: Similarity  # mesh to scan

    @property
    def median(self) -> float:
        return float(np.median(self.distances))

    @property
    def mean(self) -> float:
        return float(self.distances.mean())

    @property
    def std(self) -> float:
        return float(self.distances.std())


def seven_landmarks(points: np.ndarray) -> np.ndarray:
    """The seven (7, 3) of 68 landmarks (68, 3); seven are returned as they are."""
    return points if len(points) == len(SEVEN) else points[list(SEVEN)]


def face_region(points: np.ndarray, landmarks: np.ndarray, radius: float = FACE_RADIUS) -> np.ndarray:
    """Which points (N,) of a scan are measured: those in a ball around the middle of the face.

    The ball's centre lies 0.3 of the way from under the nose to between the inner eye corners; its radius is ``radius``
    times the mean of that way's length and the distance of the outer eye corners.

    Args:
        points: (N, 3).
        landmarks: (7, 3) of the scan.
    """
    under_nose, bridge = landmarks[4], (landmarks[1] + landmarks[2]) / 2
    center = under_nose + 0.3 * (bridge - under_nose)
    size = (np.linalg.norm(landmarks[0] - landmarks[3]) + np.linalg.norm(bridge - under_nose)) / 2
    return np.linalg.norm(points - center, axis=1) <= radius * size


def scan_to_mesh(
    scan: np.ndarray,
    scan_landmarks: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    mesh_landmarks: np.ndarray,
    *,
    radius: float = FACE_RADIUS,
    refine: int = 0,
    scaled: bool = True,
) -> ScanDistance:
    """Distances of a scan's face to a mesh aligned to it.

    Args:
        scan: (N, 3) points, metres.
        scan_landmarks: (7, 3), metres.
        vertices: (V, 3) of the mesh, in any unit (metres if not ``scaled``); faces: (F, 3).
        mesh_landmarks: (7, 3) in the mesh's unit.
        radius: of the measured part, see :func:`face_region`; infinity measures the whole scan.
        refine: rounds, at most, in which the mesh is aligned to the scan anew by its closest points.
        scaled: False keeps the mesh's size.

    Raises:
        ValueError: no points to measure, landmarks in one place, a mesh without faces.
    """
    scan = np.asarray(scan, dtype=np.float64)
    points = scan[face_region(scan, scan_landmarks, radius)] if np.isfinite(radius) else scan
    if len(points) == 0:
        raise ValueError("no point of the scan lies near its landmarks")
    similarity = fit_similarity(mesh_landmarks, scan_landmarks, scaled=scaled)
    if len(faces) == 0:
        raise ValueError("a mesh without faces")
    vertices = np.asarray(vertices, dtype=np.float64)

    def measure(similarity: Similarity) -> tuple[np.ndarray, np.ndarray]:
        """Closest points in the mesh's own frame, and distances (N,) in metres."""
        # the points come to the mesh
        local = (points - similarity.translation) @ similarity.rotation / similarity.scale
        found = closest_points(local, vertices, faces)
        closest = (found.bary[..., None] * vertices[faces[found.face]]).sum(axis=1)
        return closest, found.distance * similarity.scale

    closest, distances = measure(similarity)
    for _ in range(refine):
        better = fit_similarity(closest, points, scaled=scaled)
        closest, new_distances = measure(better)
        gain = (distances**2).sum() - (new_distances**2).sum()
        if gain <= 0:
            break
        settled = gain <= _SETTLED * (distances**2).sum()
        similarity, distances = better, new_distances
        if settled:
            break
    return ScanDistance(distances * 1000, similarity)


def pooled(results: Sequence[ScanDistance]) -> dict[str, float]:
    """Median, mean and std over all points of all scans, millimetres."""
    distances = np.concatenate([result.distances for result in results])
    return {
        "median": float(np.median(distances)),
        "mean": float(distances.mean()),
        "std": float(distances.std()),
        "points": len(distances),
    }


UNIT_NAMES = {"m": "metres", "mm": "millimetres", "cm": "centimetres", "in": "inches"}


def scan_unit(choice: str, landmarks: Path) -> float:
    """Metres of the unit of the scans: the chosen one, or the one in which the eyes of the first scan are as far apart
    as eyes are, which is said.

    Raises:
        InputError: no unit makes a face of the landmarks.
    """
    metres = {"metres": 1.0, **UNITS}
    if choice != "auto":
        return metres[UNIT_NAMES[choice]]
    marks = seven_landmarks(read_points(landmarks))
    apart = _eyes_apart(marks)
    unit = unit_of(apart, EYES_APART, EYES_RANGE) if apart > 0 else None
    if unit is None:
        check_eyes(landmarks, marks)
    name, size = unit or ("metres", 1.0)
    log.warning("note: %s: outer eye corners %.4g apart: taken for %s (--unit says otherwise)", landmarks, apart, name)
    return size


def check_eyes(path: Path, marks: np.ndarray) -> None:
    """Refuse seven landmarks (7, 3) whose outer eye corners are not as far apart as those of a face in metres.

    Raises:
        InputError: names the unit that they seem to be in.
    """
    check_size(path, _eyes_apart(marks), EYES_APART, EYES_RANGE, "outer eye corners")


def _eyes_apart(marks: np.ndarray) -> float:
    return float(((marks[0] - marks[3]) ** 2).sum() ** 0.5)


def read_points(path: str | Path) -> np.ndarray:
    """Seven or 68 landmarks (7 or 68, 3) of an npy or text file.

    Raises:
        InputError: no such file, another content, NaN or infinity.
    """
    path = Path(path)
    expected = "seven or 68 landmarks with x, y, z"
    if path.suffix.lower() == ".npy":
        points = load_numbers(path, expected)
    else:
        try:
            rows = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
            points = np.array([[float(word) for word in row.split()] for row in rows if row.strip()])
        except FileNotFoundError:
            raise InputError(path, expected, "no such file") from None
        except ValueError as error:  # not numbers, rows of different lengths, no text at all
            raise InputError(path, expected, str(error)) from None
    if points.dtype.kind not in "iuf" or points.shape not in ((7, 3), (68, 3)):
        raise InputError(path, expected, f"{points.dtype} {points.shape}")
    as_float32(path, points)
    return points.astype(np.float64)


def mesh_files(root: Path, what: str) -> list[Path]:
    """Visible PLY and OBJ files of a folder at any depth, or the one file.

    Raises:
        InputError: there is none.
    """
    if root.is_file():
        return [root]
    visible = (
        [path for path in root.rglob("*") if not any(is_hidden(part) for part in path.relative_to(root).parts)]
        if root.is_dir()
        else []
    )
    found = sorted(path for path in visible if has_suffix(path, MESH_SUFFIXES) and path.is_file())
    if not found:
        raise InputError(root, f"{what} ({', '.join(MESH_SUFFIXES)})", "none" if root.is_dir() else "no such folder")
    return found


def scan_of(mesh: Path, root: Path, scans: dict[str, Path]) -> Path:
    """The scan a mesh belongs to, by its name; if there is one scan and one mesh, they belong together."""
    if root.is_file() and len(scans) == 1:
        return next(iter(scans.values()))
    names = (
        [mesh.stem, *(folder.name for folder in mesh.relative_to(root).parents if folder.name)]
        if root.is_dir()
        else [mesh.stem]
    )
    for name in names:
        candidates = [
            scan for scan in scans if name == scan or (name.startswith(scan) and not name[len(scan)].isalnum())
        ]
        if candidates:
            return scans[max(candidates, key=len)]
    raise InputError(
        mesh,
        f"a mesh named after one of the scans ({', '.join(sorted(scans)[:3])}{', ...' if len(scans) > 3 else ''})",
        mesh.stem,
    )


def landmarks_beside(path: Path, root: Path, folder: Path | None) -> Path:
    """The landmark file of a scan or mesh: in ``folder``, at the same depth or at its top, or beside it."""
    places = [path.parent] if folder is None else [folder]
    if folder is not None and root.is_dir():
        places.insert(0, folder / path.relative_to(root).parent)
    for place in places:
        for suffix in (".npy", ".txt"):
            if (place / f"{path.stem}{suffix}").is_file():
                return place / f"{path.stem}{suffix}"
    raise InputError(
        places[-1] / f"{path.stem}.npy", f"seven or 68 landmarks of {path.name} (.npy or .txt)", "no such file"
    )


def mesh_landmarks(
    meshes: Path, points: Path | None = None, flame: Path | None = None, embedding: Path | None = None
) -> Callable[[Path, np.ndarray, np.ndarray], np.ndarray]:
    """How to get the landmarks of a mesh (path, vertices, faces): read off by an embedding if there is one, else from a
    file.

    Args:
        meshes: folder of the meshes.
        points: folder of landmark files; None = beside the meshes.
        flame: folder of FLAME's landmark embedding.
        embedding: npz of another topology, in place of ``flame``.
    """
    if flame is not None:
        topology = load_flame_embedding(flame)
    elif embedding is not None:
        topology = load_embedding(embedding)
    else:
        return lambda path, vertices, faces: read_points(landmarks_beside(path, meshes, points))

    def read_off(path: Path, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        check_topology(
            path, len(vertices), faces, topology.num_vertices, topology.faces, "the topology of the landmarks"
        )
        return extract(topology, vertices)

    return read_off
