"""Training samples of the volume network from photos: a face fitted to each, or given, placed in the crop and filled."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.flame.layer import FlameLayer
from face4d.flame.solver import fit_flame
from face4d.mesh.sequence import read_mesh
from face4d.reconstruction.face_boxes import read_landmarks
from face4d.reconstruction.inputs import FaceFinder
from face4d.reconstruction.photo import FaceBox, check_inside, read_photo, vrn_crop
from face4d.reconstruction.volume_set import VolumeSample, make_sample
from face4d.reconstruction.voxels import VRN_GRID, VolumeGrid
from face4d.runtime.files import beside

log = logging.getLogger(__name__)

_MESH_SUFFIXES = (".ply", ".obj")
_TO_VIEWER = np.array([1.0, -1.0, -1.0])  # x right, y down, z away from the viewer, to x right, y up, z toward the viewer, and back


def landmarks_away(path: str | Path, points: np.ndarray) -> np.ndarray:
    """Landmarks (68, 3) with z away from the viewer: mat files of AFLW2000-3D and 300W-LP have it toward the viewer, others are taken as they are.

    Raises:
        InputError: landmarks without a depth.
    """
    if points.shape[1] != 3:
        raise InputError(path, "68 landmarks with depth (68, 3)", f"{points.shape}")
    return points * [1.0, 1.0, -1.0] if Path(path).suffix.lower() == ".mat" else points


def fit_to_landmarks(layer: FlameLayer, landmarks: np.ndarray) -> np.ndarray:
    """The face of a FLAME-format model that fits landmarks of a photo.

    Args:
        layer: with ``contour="fixed"`` where the landmarks are points of the surface, as AFLW2000-3D's are.
        landmarks: (68, 3) pixels, z away from the viewer.

    Returns:
        Vertices (V, 3) in the same coordinates.
    """
    rest = layer.landmarks().double().cpu().numpy()[0]
    points = landmarks * _TO_VIEWER
    middle = points.mean(axis=0)
    scale = np.linalg.norm(points - middle) / np.linalg.norm(rest - rest.mean(axis=0))  # pixels per metre
    fit = fit_flame(layer, ((points - middle) / scale).astype(np.float32)[None])
    return (fit.vertices[0].astype(np.float64) * scale + middle) * _TO_VIEWER


class PhotoSamples:
    """Makes samples of photos; iterate once. Photos that cannot be used are left out, with the reason in ``dropped``.

    Args:
        photos: (file, name) of each.
        landmarks: folder with each photo's 68 landmarks with depth, in pixels; a photo without is one without a detected face.
        meshes: folder with ``<photo>.ply`` or ``.obj`` in pixels of the photo, z away from the viewer; or None to fit ``layer``.
        layer: the face model to fit, ``contour="fixed"``.
        grid: of the volumes.
    """

    def __init__(
        self,
        photos: Sequence[tuple[Path, str]],
        landmarks: Path,
        *,
        meshes: Path | None = None,
        layer: FlameLayer | None = None,
        grid: VolumeGrid = VRN_GRID,
    ) -> None:
        if not Path(landmarks).is_dir():
            raise InputError(landmarks, "a folder with landmarks named as the photos", "no such folder")
        if meshes is not None and not Path(meshes).is_dir():
            raise InputError(meshes, "a folder with meshes named as the photos", "no such folder")
        self.photos, self.finder, self.meshes, self.layer, self.grid = photos, FaceFinder(landmarks=landmarks), meshes, layer, grid
        self.dropped: dict[str, str] = {}

    def __iter__(self) -> Iterator[VolumeSample]:
        for path, name in self.photos:
            try:
                sample = self.sample(path, name)
            except InputError as error:
                self.dropped[name] = str(error)
                log.warning("left out %s: %s", path, error)
                continue
            yield sample

    def sample(self, path: Path, name: str) -> VolumeSample:
        """The sample of one photo.

        Raises:
            InputError: no photo, no landmarks with depth, no mesh, or a face beside the photo.
        """
        photo = read_photo(path)
        file = self.finder.file(path)
        landmarks = landmarks_away(file, read_landmarks(file))
        box = FaceBox.of_landmarks(landmarks)
        crop = vrn_crop(box)
        check_inside(box, photo)
        vertices, faces = self._mesh(path, landmarks)
        return make_sample(name, crop.warp(photo), crop.to_crop(vertices), faces, crop.to_crop(landmarks), self.grid)

    def _mesh(self, photo: Path, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.meshes is None:
            if self.layer is None:
                raise InputError(photo, "its mesh, or a face model to fit", "neither")
            return fit_to_landmarks(self.layer, landmarks), self.layer.faces.cpu().numpy()
        if (file := beside(self.meshes, photo.stem, _MESH_SUFFIXES)) is not None:
            return read_mesh(file)
        raise InputError(photo, f"its mesh, {photo.stem} with {', '.join(_MESH_SUFFIXES)}, in {self.meshes}", "none")


def split(photos: Sequence[tuple[Path, str]], testing: float) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Photos for training and, evenly spread over the names' order, the share ``testing`` of them for testing (at least one)."""
    count = min(max(round(len(photos) * testing), 1), max(len(photos) - 1, 0))
    chosen = set(np.linspace(0, len(photos) - 1, count).round().astype(int).tolist()) if count else set()
    return [photo for number, photo in enumerate(photos) if number not in chosen], [photos[number] for number in sorted(chosen)]
