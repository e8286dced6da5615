"""How far scans are from reconstructed meshes, in the manner of the NoW protocol.

Sanyal et al., "Learning to Regress 3D Face Shape and Expression from an Image without 3D Supervision", CVPR 2019: the
mesh is aligned to the scan by a similarity on seven landmarks; every point of the scan's face is measured to the
closest point of the mesh's surface; median, mean and standard deviation over all points of all scans. One direction
only: what the mesh has beyond the scan costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from face4d.mesh.geometry import Similarity, closest_points, fit_similarity

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
