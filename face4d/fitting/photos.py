"""Faces of photos and videos by fitting a face model to the points of the landmark network: no trained encoder needed.

Pose, expression and proportions come from the points, colours from the photo. What points do not show (the shape of
the cheeks, a likeness beyond proportions) stays the model's mean.
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from face4d.deca.face_model import DEMO, FaceModel, load_face_model
from face4d.deca.networks import FaceCode
from face4d.deca.reconstruction import PhotoFace, decoded
from face4d.deca.results import ResultWriter
from face4d.deca.tracking import write_frames
from face4d.errors import InputError
from face4d.fitting.points import FittedPoints, PointFitter, SeenFace
from face4d.fitting.shading import SkinShading
from face4d.flame.layer import FlameLayer
from face4d.flame.model import has_model
from face4d.flame.smooth import DEVIATION, smooth_directions, with_directions
from face4d.landmarks import extract
from face4d.photos.crops import Crop, FaceBox, deca_crop
from face4d.photos.face_points import TO_68
from face4d.photos.faces import FaceFinder
from face4d.registration.embeddings import point_embedding_of
from face4d.render.media import read_video
from face4d.runtime.progress import track

log = logging.getLogger(__name__)

OWN_MODELS = ("models/flame", "models/anny")  # folders, the first that holds a model is used
_KEY_FRAMES = 8  # of a video, from which the identity is estimated


def default_face_model() -> str:
    """The face model where none is named: the first of ``OWN_MODELS`` that is there, else the demo head."""
    return next((folder for folder in OWN_MODELS if has_model(folder)), DEMO)


class PhotoFitter:
    """A face model ready to be fitted.

    Args:
        face: the model.
        displacement: metres, standard deviation of smooth displacements beyond the model's identities
            (:mod:`face4d.flame.smooth`); 0 keeps to the model.
        shading: use the shading of the skin too.

    Raises:
        InputError: no embedding of the 468 points on the model's topology; says how to measure one.
    """

    def __init__(self, face: FaceModel, displacement: float = DEVIATION, *, shading: bool = True) -> None:
        model = face.model
        place = face.folder if face.folder is not None else Path(face.source)
        embedding = point_embedding_of(place, model.num_vertices, model.faces)
        template = model.template.astype(np.float64)
        skin = SkinShading(template, extract(face.embedding, template), model.faces) if shading else None
        self.face = _widened(face, displacement)
        self._layer = copy.deepcopy(self.face.layer).double()
        self._fitter = PointFitter(self._layer, embedding, skin)

    @classmethod
    def load(cls, source: str | Path, displacement: float = DEVIATION, *, shading: bool = True) -> PhotoFitter:
        """Of ``demo``, a folder or a model file, see :func:`~face4d.deca.face_model.load_face_model`."""
        return cls(load_face_model(source), displacement, shading=shading)

    def seen(self, photo: np.ndarray, points: np.ndarray) -> SeenFace:
        """A face of a photo (H, W, 3) in 0..1, by its (468, 3) points in pixels, as :meth:`identity` and :meth:`fit`
        take it.
        """
        crop = deca_crop(FaceBox.of_landmarks(points[TO_68]))
        return SeenFace(points, crop.warp(photo), crop)

    def identity(self, faces: Sequence[SeenFace]) -> np.ndarray:
        """(S,) coefficients of the person in several photos."""
        return self._fitter.fit(faces)[0].identity

    def fit(self, photo: np.ndarray, points: np.ndarray, identity: np.ndarray | None = None) -> PhotoFace:
        """The face in a photo (H, W, 3) in 0..1, of its (468, 3) points in pixels and, where it is known, its
        identity.
        """
        found = self._fitter.fit([self.seen(photo, points)], identity=identity)[0]
        crop = deca_crop(FaceBox.of_landmarks(self._landmarks(found)))
        return PhotoFace.of(photo, crop, decoded(self.face, self.code(found, crop)))

    def code(self, found: FittedPoints, crop: Crop) -> FaceCode:
        """A fit in the terms of an encoder's code; without light and texture, whose parts are empty."""
        scale = 2 * crop.scale * found.scale / crop.size
        across, down = 2 * crop.to_crop(found.shift) / crop.size - 1
        camera = np.array([scale, across / scale, -down / scale])
        parts = {
            "shape": found.identity,
            "texture": np.zeros(0),
            "expression": found.expression,
            "pose": np.concatenate([found.head, found.jaw]),
            "camera": camera,
            "light": np.zeros((0, 3)),
        }
        return FaceCode(**{name: _row(value) for name, value in parts.items()})

    def _landmarks(self, found: FittedPoints) -> np.ndarray:
        """(68, 3) in the photo."""
        parts = {"shape": found.identity, "expression": found.expression}
        poses = {"global_pose": found.head, "jaw_pose": found.jaw}
        rows = {name: torch.as_tensor(value)[None] for name, value in (parts | poses).items()}
        with torch.no_grad():
            return found.in_photo(self._layer.landmarks(**rows)[0].numpy())

    def fit_video(
        self,
        path: Path,
        name: str,
        finder: FaceFinder,
        writer: ResultWriter,
        *,
        folder: Path | None = None,
        quiet: bool = False,
    ) -> Path:
        """Write the face of a video as :func:`~face4d.deca.tracking.reconstruct_frames` does: the identity from some
        frames together, then expression, jaw, pose and camera of every frame, the search for each begun at the frame
        before.

        Returns:
            The folder.

        Raises:
            InputError: no video, or no face in any frame.
        """
        seen, fps = _followed(path, finder, quiet)
        identity = self.identity(self._key_frames(path, seen))
        codes: list[FaceCode] = []
        crops: list[Crop] = []
        before: FittedPoints | None = None
        for points in track("fitting", seen, unit="frame", quiet=quiet):
            before = self._fitter.fit([SeenFace(points)], identity=identity, start=before)[0]
            crops.append(deca_crop(FaceBox.of_landmarks(self._landmarks(before))))
            codes.append(self.code(before, crops[-1]))
        return write_frames(path, name, FaceCode.joined(codes), crops, fps, writer, folder=folder, quiet=quiet)

    def _key_frames(self, path: Path, points: Sequence[np.ndarray]) -> list[SeenFace]:
        """Some frames of a video, over its whole length."""
        keys = set(np.linspace(0, len(points) - 1, _KEY_FRAMES).round().astype(int).tolist())
        frames = enumerate(itertools.islice(read_video(path).frames, len(points)))
        return [self.seen(frame.astype(np.float32) / 255, points[key]) for key, frame in frames if key in keys]


def _followed(path: Path, finder: FaceFinder, quiet: bool) -> tuple[list[np.ndarray], float]:
    """(468, 3) points of the face in every frame, and the frames per second."""
    video = read_video(path)
    seen: list[np.ndarray] = []
    lost, finder = 0, finder.in_video(video.fps)
    for frame in track("looking", video.frames, unit="frame", quiet=quiet):
        try:
            seen.append(finder.points(frame.astype(np.float32) / 255, path).points)
        except InputError:
            lost += 1
            if not seen:
                raise
            seen.append(seen[-1])
    if not seen:
        raise InputError(path, "a video with frames", "none")
    if lost:
        log.warning("%s: no face found in %d of %d frames, which repeat the one before", path, lost, len(seen))
    return seen, video.fps


def _widened(face: FaceModel, displacement: float) -> FaceModel:
    """The model with smooth displacements after its own identity directions, those that are not zero."""
    model, layer = face.model, face.layer
    own = _used(model.shape_directions[:, :, : layer.num_shape])
    directions = np.zeros((model.num_vertices, 3, 0))
    if displacement > 0:
        template = model.template.astype(np.float64)
        directions = smooth_directions(template, extract(face.embedding, template), deviation=displacement)
    model = with_directions(model, directions, own)
    wide = FlameLayer(
        model,
        face.embedding,
        num_shape=model.shape_directions.shape[2],
        num_expression=_used(model.expression_directions[:, :, : layer.num_expression]),
        contour=layer.contour,
    )
    return replace(face, model=model, layer=wide, own_shape=own)


def _used(directions: np.ndarray) -> int:
    """Columns up to the last that is not zero."""
    return int(np.flatnonzero(np.abs(directions).max(axis=(0, 1)))[-1]) + 1


def _row(value: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(value, np.float32))[None]
