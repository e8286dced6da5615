"""Rendered faces in memory for training an encoder, drawn once; its errors on them, and a picture of some."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from face4d.constants import MM_PER_METRE
from face4d.deca.face_model import FaceModel
from face4d.deca.networks import CodeLayout, FaceCode
from face4d.deca.reconstruction import Reconstructor
from face4d.mesh.geometry import fit_similarity
from face4d.render.lit import render, to_screen
from face4d.render.pictures import clay, draw
from face4d.runtime.progress import track
from face4d.synthetic.faces import SyntheticFaces


def aligned_error(found: Tensor, true: Tensor) -> Tensor:
    """(B,) mean distance in mm of vertices (B, V, 3) from the true ones after the similarity that aligns them to each
    other best.
    """
    errors = []
    for points, target in zip(found.double().cpu().numpy(), true.double().cpu().numpy()):
        errors.append(
            np.linalg.norm(fit_similarity(points, target).apply(points) - target, axis=1).mean() * MM_PER_METRE
        )
    return torch.tensor(errors, dtype=torch.float64)


def face_errors(face: FaceModel, predicted: FaceCode, true: FaceCode) -> dict[str, Tensor]:
    """Vertex errors (B,) in mm after scaled rigid alignment: of the neutral face, of the face with its expression, and
    of the mean face.

    The mean face is the trivial answer: ``mean_face`` beside ``neutral``; beside ``expressive`` the mean face without
    expression.
    """
    neutral, expressive = face.neutral(true.shape), face.unturned(true)
    mean = torch.as_tensor(face.model.template, dtype=neutral.dtype, device=neutral.device).expand_as(neutral)

    return {
        "neutral": aligned_error(face.neutral(predicted.shape), neutral),
        "expressive": aligned_error(face.unturned(predicted), expressive),
        "mean_face": aligned_error(mean, neutral),
        "mean_face_expressive": aligned_error(mean, expressive),
    }


def landmark_error(face: FaceModel, predicted: FaceCode, true: FaceCode) -> Tensor:
    """(B,) mean distance of the 68 projected landmarks, in percent of the picture's side."""
    places = [to_screen(face.pose(code)[1], code.camera)[..., :2] for code in (predicted, true)]
    return (places[0] - places[1]).norm(dim=2).mean(1) * 50


_BATCH = 16  # faces drawn at a time, whatever the training does, so that the set depends on the seed alone


@dataclass(frozen=True)
class RenderedFaces:
    """N faces with everything known.

    Attributes:
        images: (N, 3, S, S) uint8.
        codes: (N, total) true codes, as the layout orders them.
        landmarks: (N, 68, 3) screen.
        colours: (N, V, 3) uint8 albedo of the vertices.
        layout: of the codes.
    """

    images: Tensor
    codes: Tensor
    landmarks: Tensor
    colours: Tensor
    layout: CodeLayout

    def __len__(self) -> int:
        return len(self.images)

    @property
    def code(self) -> FaceCode:
        """The true codes by parts."""
        return self.layout.split(self.codes)

    def rows(self, chosen: slice | Tensor) -> RenderedFaces:
        """Some of the faces."""
        return RenderedFaces(
            self.images[chosen], self.codes[chosen], self.landmarks[chosen], self.colours[chosen], self.layout
        )

    def pictures(self) -> Tensor:
        """(N, 3, S, S) float32 in 0..1."""
        return self.images.float() / 255

    def moved(self, images: Tensor, dx: float, dy: float) -> RenderedFaces:
        """The faces in other pictures, in which they lie dx further right and dy further down (screen units)."""
        codes, end = self.codes.clone(), self.layout.total - self.layout.light
        scale = codes[:, end - 3]
        codes[:, end - 2] += dx / scale
        codes[:, end - 1] -= dy / scale  # the camera's y is upwards
        return RenderedFaces(
            images, codes, self.landmarks + self.landmarks.new_tensor([dx, dy, 0.0]), self.colours, self.layout
        )

    def digest(self) -> str:
        """Of the codes and some of the pixels."""
        return hashlib.sha256(
            self.codes.cpu().numpy().tobytes() + self.images[..., ::16, ::16].cpu().numpy().tobytes()
        ).hexdigest()[:16]


def render_faces(
    face: FaceModel,
    layout: CodeLayout,
    count: int,
    size: int,
    seed: int,
    device: torch.device | str = "cpu",
    *,
    quiet: bool = False,
) -> RenderedFaces:
    """Draw ``count`` random faces as pictures of ``size`` pixels, framed as crops of photos are; the same ones for the
    same seed.
    """
    source = SyntheticFaces(face.layer, seed, size=size)
    parts: list[tuple[Tensor, ...]] = []
    with track("rendering", total=count, unit="face", quiet=quiet) as bar:
        while (done := sum(len(part[0]) for part in parts)) < count:
            batch = source.batch(_BATCH)
            code = torch.cat(
                [
                    batch.shape[:, : layout.shape],
                    batch.shape.new_zeros(len(batch.shape), layout.texture),
                    batch.expression[:, : layout.expression],
                    batch.pose,
                    batch.camera,
                    batch.light.flatten(1),
                ],
                dim=1,
            )
            kept = min(_BATCH, count - done)
            whole = (
                (batch.images * 255).round().byte(),
                code,
                batch.screen_landmarks,
                (batch.colors * 255).round().byte(),
            )
            parts.append(tuple(part[:kept].to(device) for part in whole))
            bar.update(kept)
    images, codes, landmarks, colours = (torch.cat(part) for part in zip(*parts))
    return RenderedFaces(images, codes, landmarks, colours, layout)


def photometric_difference(face: FaceModel, code: FaceCode, true: RenderedFaces) -> Tensor:
    """Mean absolute difference () between pictures and faces drawn again with predicted geometry, camera and light in
    their true colours.

    Counted where the predicted face is, so that the background does not matter. Derivatives go through shading and
    colours in the face, not through its outline.
    """
    vertices, _ = face.pose(code)
    drawn = render(
        vertices, face.layer.faces, code.camera, code.light, true.images.shape[-1], colors=true.colours.float() / 255
    )
    return ((drawn.image.clamp(0, 1) - true.pictures()).abs() * drawn.mask).sum() / (3 * drawn.mask.sum()).clamp_min(1)


_REACH = 0.145  # metres from the middle of a neutral face to the edge of its picture


def preview(reconstructor: Reconstructor, faces: RenderedFaces) -> np.ndarray:
    """A picture (4 S, N S, 3) uint8 of N faces with pictures of S pixels: the picture, the face found over it, the
    neutral face found, the true one.

    Neutral faces look ahead; the one found is aligned to the true one by a similarity, as for the scores.
    """
    model = reconstructor.face
    found, size = reconstructor(faces.pictures(), detail=False), faces.images.shape[-1]
    placed = found.in_crop(found.vertices, size).double().cpu().numpy()  # (N, V, 3) pixels
    with torch.no_grad():
        true = model.neutral(faces.code.shape).double().cpu().numpy()  # (N, V, 3) metres
    neutral, mesh = found.neutral.double().cpu().numpy(), model.uv.mesh_faces
    columns = []
    for picture, vertices, own, wanted in zip(
        faces.pictures().permute(0, 2, 3, 1).cpu().numpy(), placed, neutral, true
    ):
        middle = (wanted.min(axis=0) + wanted.max(axis=0)) / 2
        ahead = [_ahead(points - middle, size) for points in (fit_similarity(own, wanted).apply(own), wanted)]
        white = np.ones_like(picture)
        views = [(picture, vertices), (white, ahead[0]), (white, ahead[1])]
        columns.append(
            np.concatenate(
                [picture, *(clay(under, points, mesh, draw(points, mesh, size, size), 1.0) for under, points in views)]
            )
        )
    return (np.concatenate(columns, axis=1).clip(0, 1) * 255).round().astype(np.uint8)


def _ahead(vertices: np.ndarray, size: int) -> np.ndarray:
    """Vertices (V, 3), metres from the middle, in pixels of a picture from the front: x right, y down, z away."""
    return vertices * [1, -1, -1] * (size / (2 * _REACH)) + [size / 2, size / 2, 0]
