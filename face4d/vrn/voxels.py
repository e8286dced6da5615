"""Volumes of heads: a mesh filled with voxels, and the surface of a volume.

A volume is (depth, height, width), layer 0 nearest to the viewer, aligned with a picture: voxel (k, y, x) lies at the
pixel's sample (x, y). Places are (x, y, z): x right and y down in pixels of the picture, z away from the viewer in
pixels, 0 at the mean depth of the 68 landmarks (a picture does not tell how far away a face is).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from face4d.constants import OUTER_EYES
from face4d.render.zbuffer import all_fragments
from face4d.runtime.fields import integer, number

# pixels: rays are shifted so much, lest they meet corners that lie at whole pixels
_OFFSET = (math.pi * 1e-6, math.e * 1e-6)
_MARGIN = 2.0  # layers that a place may lie behind the first one of its pixel and be seen


@dataclass(frozen=True)
class VolumeGrid:
    """Where the voxels are.

    Attributes:
        depth, height, width: voxels.
        step: pixels from layer to layer; at 1 a whole head fits VRN's crop. (The published weights have 0.5, which
            holds a face.)
        center: layer of the landmarks' mean depth; the head's back is further from it than the nose.
    """

    depth: Annotated[int, integer(1, 1024)] = 200
    height: Annotated[int, integer(1, 1024)] = 192
    width: Annotated[int, integer(1, 1024)] = 192
    step: Annotated[float, number(0, 1000, above=True)] = 1.0
    center: Annotated[float, number(-1000, 1000)] = 64.0

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.depth, self.height, self.width

    def layer(self, z: np.ndarray) -> np.ndarray:
        """Layers, fractions included, of depths in pixels."""
        return np.asarray(z) / self.step + self.center

    def z(self, layer: np.ndarray) -> np.ndarray:
        """Depths in pixels of layers."""
        return (np.asarray(layer) - self.center) * self.step


VRN_GRID = VolumeGrid()


def close_holes(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Close a mesh: every rim is joined to its middle point by triangles. A head's neck, a mask's outline and cut eye
    openings are rims.

    Args:
        vertices: (V, 3); vertices at the same place count as one, so that texture seams are no rims.
        faces: (F, 3), consistently oriented.

    Returns:
        vertices (V + rims, 3) float64 and faces (F + rim edges, 3), on which every edge is used as often in one
        direction as in the other.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    _, first, same = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    faces = first[same.reshape(-1)][np.asarray(faces)]
    count = len(vertices)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    low, high = edges.min(axis=1), edges.max(axis=1)
    pairs, place = np.unique(low.astype(np.int64) * count + high, return_inverse=True)
    surplus = np.bincount(place.reshape(-1), weights=np.where(edges[:, 0] == low, 1, -1), minlength=len(pairs)).astype(
        int
    )
    open_pairs = np.flatnonzero(surplus)
    if not len(open_pairs):
        return vertices, faces
    start, end = pairs[open_pairs] // count, pairs[open_pairs] % count
    start, end = np.where(surplus[open_pairs] > 0, start, end), np.where(surplus[open_pairs] > 0, end, start)
    start, end = (np.repeat(side, np.abs(surplus[open_pairs])) for side in (start, end))
    _, rim = connected_components(coo_matrix((np.ones(len(start)), (start, end)), (count, count)), directed=False)
    rims, rim = np.unique(rim[start], return_inverse=True)
    length = np.linalg.norm(vertices[start] - vertices[end], axis=1) + 1e-300
    weighted = length[:, None] * (vertices[start] + vertices[end]) / 2
    sums = np.stack([np.bincount(rim, weights=column, minlength=len(rims)) for column in weighted.T], axis=1)
    middle = sums / np.bincount(rim, weights=length, minlength=len(rims))[:, None]
    caps = np.stack([end, start, count + rim], axis=1)
    return np.concatenate([vertices, middle]), np.concatenate([faces, caps])


def voxelise(vertices: np.ndarray, faces: np.ndarray, grid: VolumeGrid = VRN_GRID) -> np.ndarray:
    """Fill a mesh: voxels whose middle the surface winds around.

    Along the ray of every pixel the surface is crossed inwards or outwards, and what has been entered more often than
    left is inside. So parts may overlap (eyeballs, teeth), the surface may be turned inside out as a whole, and holes
    are closed first. What lies outside the grid is cut off.

    Args:
        vertices: (V, 3) places.
        faces: (F, 3), consistently oriented.

    Returns:
        ``grid.shape`` bool.

    Raises:
        ValueError: coordinates that are not finite.
    """
    if not np.isfinite(vertices).all():
        raise ValueError("vertices: expected finite coordinates, found NaN or infinity")
    vertices, faces = close_holes(vertices, faces)
    vertices = vertices - [*_OFFSET, 0.0]
    turns = np.zeros((grid.depth + 1, grid.height * grid.width), dtype=np.int8)  # the last layer takes what lies behind
    for pixel, triangle in all_fragments(vertices, faces, grid.height, grid.width):
        row, column = np.divmod(pixel, grid.width)
        depth, sign = _crossings(vertices[faces[triangle]], column, row)
        layer = np.clip(np.ceil(grid.layer(depth)), 0, grid.depth).astype(np.int64)
        np.add.at(turns, (layer, pixel), sign)
    winding = np.cumsum(turns[:-1], axis=0, dtype=np.int8, out=turns[:-1])
    return (winding != 0).reshape(grid.shape)


def _crossings(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depths (N,) of triangles (N, 3, 3) at (x, y), and 1 (N,) int8 where they face away from the viewer, else -1.

    Depths are within the corners' where a triangle is seen from its edge.
    """
    a, b, c = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    sign = np.where(area > 0, 1, -1).astype(np.int8)
    area = np.where(area == 0, 1, area)
    dx, dy = x - a[:, 0], y - a[:, 1]
    depth = a[:, 2] + ((dx * c[:, 1] - dy * c[:, 0]) * b[:, 2] + (b[:, 0] * dy - b[:, 1] * dx) * c[:, 2]) / area
    return np.clip(depth, corners[:, :, 2].min(axis=1), corners[:, :, 2].max(axis=1)), sign


def largest_part(volume: np.ndarray, level: float = 0.5) -> np.ndarray:
    """The volume with everything but its largest connected part (above the level, over faces of voxels) emptied."""
    parts, count = ndimage.label(volume > level)
    if count < 2:
        return volume
    return np.where(
        (parts == 0) | (parts == np.bincount(parts.ravel())[1:].argmax() + 1), volume, np.zeros((), volume.dtype)
    )


def surface(volume: np.ndarray, grid: VolumeGrid = VRN_GRID, level: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The surface at a level by marching cubes (Lewiner et al. 2003), closed where the head leaves the grid.

    Args:
        volume: ``grid.shape``, bool or probabilities.

    Returns:
        vertices (V, 3) float32 places and faces (F, 3) int32, counter-clockwise seen from outside; both empty where
        nothing is above the level.
    """
    from skimage.measure import marching_cubes  # slow to import

    filled = volume > level
    if not filled.any():
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    spans = [np.flatnonzero(filled.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    low = [max(span[0] - 1, 0) for span in spans]
    part = volume[tuple(slice(start, span[-1] + 2) for start, span in zip(low, spans))]
    # the axes turn round
    found, faces, _, _ = marching_cubes(np.pad(part.astype(np.float32), 1), level, gradient_direction="descent")
    found = found + np.array(low) - 1
    vertices = np.stack([found[:, 2], found[:, 1], grid.z(found[:, 0])], axis=1)
    return vertices.astype(np.float32), faces.astype(np.int32)


def iou(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two bool volumes; 1 for two empty ones."""
    union = np.count_nonzero(found | true)
    return np.count_nonzero(found & true) / union if union else 1.0


def first_layers(volume: np.ndarray) -> np.ndarray:
    """The layer (H, W) of the voxel that every pixel of a bool volume shows; the number of layers where there is
    none.
    """
    return np.where(volume.any(axis=0), volume.argmax(axis=0), len(volume))


def visible(vertices: np.ndarray, volume: np.ndarray, grid: VolumeGrid = VRN_GRID, rim: int = 0) -> np.ndarray:
    """Which places (V, 3) the picture of a bool volume shows, (V,) bool.

    Args:
        rim: pixels along the outline that do not count.
    """
    column = np.clip(np.rint(vertices[:, 0]), 0, grid.width - 1).astype(int)
    row = np.clip(np.rint(vertices[:, 1]), 0, grid.height - 1).astype(int)
    shown = grid.layer(vertices[:, 2]) <= first_layers(volume)[row, column] + _MARGIN
    return shown & ndimage.binary_erosion(volume.any(axis=0), iterations=rim)[row, column] if rim else shown


def eye_distance(landmarks: np.ndarray) -> float:
    """Distance of the outer eye corners of landmarks (68, 3), what errors are divided by; in space, so that it holds in
    profile.
    """
    return float(np.linalg.norm(landmarks[OUTER_EYES[0]] - landmarks[OUTER_EYES[1]]))


def nme(found: np.ndarray, true: np.ndarray, landmarks: np.ndarray) -> float:
    """Normalised mean error: mean distance of true places to the nearest found vertex, over the distance of the outer
    eye corners.

    A volume does not say which of its points is which vertex, so each takes the nearest.

    Args:
        found: (N, 3) vertices of the surface found; true: (M, 3); landmarks: (68, 3), all in the same pixels.

    Returns:
        A share of the eye distance; infinity where nothing was found.
    """
    if not len(found):
        return float("inf")
    return float(cKDTree(found).query(true)[0].mean() / eye_distance(landmarks))


def pack(volume: np.ndarray) -> np.ndarray:
    """A bool volume (D, H, W) as bits (ceil(D / 8), H, W) uint8, along the depth."""
    return np.packbits(volume, axis=0)


def unpack(bits: np.ndarray, depth: int) -> np.ndarray:
    """The volume (depth, H, W) bool of :func:`pack`'s bits, or of any rows and columns of them."""
    return np.unpackbits(bits, axis=0, count=depth).astype(bool)
