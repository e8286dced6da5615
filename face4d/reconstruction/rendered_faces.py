"""A set of rendered faces in memory, drawn once, and a picture of a face drawn as predicted beside the true one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from face4d.reconstruction.encoder import CodeLayout, FaceCode
from face4d.reconstruction.face_model import FaceModel
from face4d.reconstruction.render import render
from face4d.reconstruction.synthetic import SyntheticFaces
from face4d.runtime.progress import track

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
        return RenderedFaces(self.images[chosen], self.codes[chosen], self.landmarks[chosen], self.colours[chosen], self.layout)

    def pictures(self) -> Tensor:
        """(N, 3, S, S) float32 in 0..1."""
        return self.images.float() / 255

    def moved(self, images: Tensor, dx: float, dy: float) -> RenderedFaces:
        """The faces in other pictures, in which they lie dx further right and dy further down (screen units)."""
        codes, end = self.codes.clone(), self.layout.total - self.layout.light
        scale = codes[:, end - 3]
        codes[:, end - 2] += dx / scale
        codes[:, end - 1] -= dy / scale  # the camera's y is upwards
        return RenderedFaces(images, codes, self.landmarks + self.landmarks.new_tensor([dx, dy, 0.0]), self.colours, self.layout)

    def digest(self) -> str:
        """Of the codes and some of the pixels."""
        return hashlib.sha256(self.codes.cpu().numpy().tobytes() + self.images[..., ::16, ::16].cpu().numpy().tobytes()).hexdigest()[:16]


def render_faces(
    face: FaceModel, layout: CodeLayout, count: int, size: int, seed: int, device: torch.device | str = "cpu", *, quiet: bool = False
) -> RenderedFaces:
    """Draw ``count`` random faces as pictures of ``size`` pixels, framed as crops of photos are; the same ones for the same seed."""
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
            whole = ((batch.images * 255).round().byte(), code, batch.screen_landmarks, (batch.colors * 255).round().byte())
            parts.append(tuple(part[:kept].to(device) for part in whole))
            bar.update(kept)
    images, codes, landmarks, colours = (torch.cat(part) for part in zip(*parts))
    return RenderedFaces(images, codes, landmarks, colours, layout)


def photometric_difference(face: FaceModel, code: FaceCode, true: RenderedFaces) -> Tensor:
    """Mean absolute difference () between pictures and faces drawn again with predicted geometry, camera and light in their true colours.

    Counted where the predicted face is, so that the background does not matter. Derivatives go through shading and colours in the face, not
    through its outline.
    """
    vertices, _ = face.pose(code)
    drawn = render(vertices, face.layer.faces, code.camera, code.light, true.images.shape[-1], colors=true.colours.float() / 255)
    return ((drawn.image.clamp(0, 1) - true.pictures()).abs() * drawn.mask).sum() / (3 * drawn.mask.sum()).clamp_min(1)
