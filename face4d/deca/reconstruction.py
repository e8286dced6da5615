"""From a photo to a face: encoder, face model, camera.

Feng et al., "Learning an animatable detailed 3D face model from in-the-wild images", SIGGRAPH 2021.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from face4d.datasets import companions
from face4d.deca.checkpoints import LoadedEncoder, load_encoder
from face4d.deca.face_model import (
    DEMO,
    TEXTURE_FILES,
    FaceModel,
    TextureModel,
    find_texture_model,
    lit,
    load_face_model,
    load_texture_model,
)
from face4d.deca.networks import FaceCode, for_inference
from face4d.errors import InputError
from face4d.landmarks import extract
from face4d.photos.crops import DECA_SIZE, Crop, FaceBox, check_inside, crop_face, read_photo
from face4d.photos.detection import find_face
from face4d.photos.faces import landmark_nme
from face4d.render.lit import to_pixels, to_screen
from face4d.render.texture import UvMap, texture_of_photo, uv_map, vertex_colours

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconstruction:
    """Faces of B crops.

    Attributes:
        code: what the encoder found.
        vertices: (B, V, 3) metres, with expression, jaw and head pose.
        landmarks: (B, 68, 3) metres, of the same.
        neutral: (B, V, 3) metres, no expression, looking ahead.
        displacement: (B, 256, 256) metres along the normal over the texture layout, or None.
    """

    code: FaceCode
    vertices: Tensor
    landmarks: Tensor
    neutral: Tensor
    displacement: Tensor | None = None

    def in_crop(self, points: Tensor, size: int = DECA_SIZE) -> Tensor:
        """Points (B, N, 3) metres as x right, y down and z away from the viewer in pixels of the crop."""
        return to_pixels(to_screen(points, self.code.camera), size)


class Reconstructor:
    """An encoder with its face model, ready for crops.

    Args:
        encoder: of :func:`~face4d.deca.checkpoints.load_encoder`.
        face_model: the one the encoder was trained for.
        device: where it runs.

    Raises:
        InputError: another face model, or one with fewer coefficients than the encoder tells.
    """

    def __init__(self, encoder: LoadedEncoder, face_model: FaceModel, device: torch.device | str = "cpu") -> None:
        if encoder.fingerprint is not None and not face_model.is_model_of(encoder.fingerprint):
            raise InputError(
                f"{encoder.path} with face model {face_model.source}",
                f"the model it was trained for ({encoder.face_model})",
                "another one",
            )
        self.encoder, self.face = encoder, face_model
        self.device = torch.device(device)
        face_model.layer.to(self.device)
        self.coarse = for_inference(encoder.coarse).to(self.device)
        self.detail_encoder = self.detail_generator = None
        if encoder.detail_encoder is not None and encoder.detail_generator is not None and face_model.uv.is_published:
            self.detail_encoder = for_inference(encoder.detail_encoder).to(self.device)
            self.detail_generator = for_inference(encoder.detail_generator).to(self.device)
        elif encoder.detail_encoder is not None:
            log.warning(
                "%s: no texture layout, which fine displacement needs (head_template.obj of DECA or "
                "head_template_mesh.obj of the FLAME site there)",
                face_model.source,
            )

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | LoadedEncoder | None = None,
        face_model: str | Path | None = None,
        device: torch.device | str = "cpu",
    ) -> Reconstructor:
        """Read both; the default face model is the one the encoder was trained for, found from where the encoder lies.

        Raises:
            InputError: a file that is missing (says where it comes from) or of other content.
        """
        encoder = checkpoint if isinstance(checkpoint, LoadedEncoder) else load_encoder(checkpoint)
        if face_model is None:
            own = encoder.face_model
            face_model = own if own == DEMO else companions.find(encoder.path, own) or own
        return cls(encoder, load_face_model(face_model, encoder.layout, device), device)

    def load_texture_model(self) -> TextureModel | None:
        """The texture model in the face model's folder; None without one, or where the encoder tells no coefficients of
        one.

        Raises:
            InputError: a file of that name with another content.
        """
        path = find_texture_model(self.face.folder)
        if path is None or self.encoder.layout.texture == 0:
            return None
        if not self.face.uv.is_published:
            log.warning(
                "%s: not used, since %s has no texture layout (head_template.obj or head_template_mesh.obj)",
                path,
                self.face.source,
            )
            return None
        if path.name != TEXTURE_FILES[0] and self.encoder.fingerprint is None:
            log.warning(
                "%s: the published weights were trained with %s; colours by another model are not the person's",
                path,
                TEXTURE_FILES[0],
            )
        return load_texture_model(path, self.encoder.layout.texture)

    @torch.inference_mode()
    def encode(self, crops: Tensor) -> FaceCode:
        """Codes of pictures (B, 3, H, W) RGB in 0..1."""
        crops = self._sized(crops, self.encoder.image_size)
        return self.encoder.layout.split(self.coarse(crops).float())

    @torch.inference_mode()
    def __call__(self, crops: Tensor, *, detail: bool = True) -> Reconstruction:
        """Faces of pictures (B, 3, H, W) RGB in 0..1; fine displacement where the weights and the layout allow it."""
        code = self.encode(crops)
        displacement = None
        if detail and self.detail_encoder is not None and self.detail_generator is not None:
            fine = self.detail_encoder(self._sized(crops, DECA_SIZE))  # (B, 128)
            displacement = self.detail_generator(torch.cat([code.pose[:, 3:], code.expression, fine], dim=1))[:, 0]
        return decoded(self.face, code, displacement)

    def _sized(self, crops: Tensor, size: int) -> Tensor:
        crops = crops.to(self.device)
        if crops.shape[-2:] != (size, size):
            crops = functional.interpolate(crops, (size, size), mode="bilinear", antialias=True)
        return crops.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def decoded(face: FaceModel, code: FaceCode, displacement: Tensor | None = None) -> Reconstruction:
    """Faces of codes."""
    vertices, landmarks = face.pose(code)
    return Reconstruction(code, vertices, landmarks, face.neutral(code.shape), displacement)


def as_batch(pictures: np.ndarray) -> Tensor:
    """Pictures (B, H, W, 3) or one (H, W, 3) as the networks see them, (B, 3, H, W)."""
    batch = torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32))
    return (batch if batch.ndim == 4 else batch[None]).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class PhotoFace:
    """A face in a photo.

    Attributes:
        photo: (H, W, 3) 0..1.
        crop: what the encoder saw of it.
        face: one row.
        placed: (V, 3) vertices in the photo: x right, y down, z away from the viewer, pixels.
        landmarks: (68, 3) likewise.
    """

    photo: np.ndarray
    crop: Crop
    face: Reconstruction
    placed: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, photo: np.ndarray, crop: Crop, face: Reconstruction) -> PhotoFace:
        """A face whose code is of a crop of a photo."""
        placed, landmarks = (
            crop.to_photo(face.in_crop(points, crop.size)[0].cpu().numpy().astype(np.float64))
            for points in (face.vertices, face.landmarks)
        )
        return cls(photo, crop, face, placed, landmarks)

    def error(self, face_model: FaceModel, true: np.ndarray) -> float:
        """Normalised mean error of the landmarks, see :func:`~face4d.photos.faces.landmark_nme`, in the convention of
        the true ones: with a depth (68, 3) those of the jaw lie on its edge in all views, without (68, 2) where the
        picture shows the face to end.
        """
        landmarks = self.landmarks
        if true.shape[1] == 3:
            jaw = face_model.embedding.on_jaw_line(face_model.model.template)
            landmarks = extract(jaw, self.placed.astype(np.float64))
        return landmark_nme(landmarks, true)

    def texture(
        self, face_model: FaceModel, texels: UvMap, texture_model: TextureModel | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The face's colours (S, S, 3) 0..1, from the photo where it shows them; and without light (S, S, 3), where
        there is a texture model.
        """
        posed, neutral, faces = (
            self.face.vertices[0].cpu().numpy(),
            self.face.neutral[0].cpu().numpy(),
            face_model.uv.mesh_faces,
        )
        albedo = expected = None
        if texture_model is not None:
            albedo = texture_model.albedo(self.face.code.texture[0].cpu().numpy(), texels)
            expected = lit(albedo, texels, posed, faces, self.face.code.light[0].cpu().numpy())
        texture, _ = texture_of_photo(self.photo, self.placed, faces, texels, neutral, expected)
        return texture, albedo


def reconstruct(
    reconstructor: Reconstructor, photo: np.ndarray, face: FaceBox | np.ndarray, *, detail: bool = True
) -> PhotoFace:
    """The face in a photo (H, W, 3), given its box or its 68 landmarks (68, 2 or 3) in pixels.

    Raises:
        InputError: a box beside the photo, or without area.
    """
    picture, crop = crop_face(photo, face)
    return PhotoFace.of(photo, crop, reconstructor(as_batch(picture), detail=detail))


def coloured(
    found: PhotoFace, face_model: FaceModel, texture_size: int = 512
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The neutral face of the person in a photo: vertices (V, 3) float32 metres, faces (F, 3), and the photo's colours
    (V, 3) 0..1.
    """
    texture, _ = found.texture(face_model, uv_map(face_model.uv, texture_size))
    neutral = found.face.neutral[0].cpu().numpy()
    return neutral, face_model.model.faces, vertex_colours(texture, face_model.uv, len(neutral))


def neutral_from_photo(
    path: str | Path,
    checkpoint: str | Path | LoadedEncoder | None = None,
    *,
    face_model: str | Path | None = None,
    face: FaceBox | np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The neutral face of the person in a photo.

    Args:
        path: photo.
        checkpoint: encoder weights (default: the published ones if they are there, else those of the demo head).
        face_model: ``demo`` or a folder (default: what the encoder was trained for).
        face: box or 68 landmarks in pixels (default: found by the detector).

    Returns:
        vertices (V, 3) float32 metres of the neutral expression and pose, faces (F, 3) int32, and what else is known:
        ``colours`` (V, 3) 0..1 of the photo, ``checkpoint``, ``face_model``, ``crop`` (3, 3), ``landmarks`` (68, 3) in
        photo pixels and the code's parts.

    Raises:
        InputError: no photo, no face, no weights: each in one line.
    """
    reconstructor = Reconstructor.load(checkpoint, face_model, device)
    photo = read_photo(path)
    face = find_face(photo, path).box if face is None else face
    check_inside(face if isinstance(face, FaceBox) else FaceBox.of_landmarks(face), photo, path)
    found = reconstruct(reconstructor, photo, face, detail=False)
    info: dict[str, Any] = {name: value[0].cpu().numpy() for name, value in found.face.code.as_dict().items()}
    info |= {
        "checkpoint": str(reconstructor.encoder.path),
        "face_model": reconstructor.face.source,
        "crop": found.crop.matrix,
    }
    vertices, faces, colours = coloured(found, reconstructor.face)
    return vertices, faces, info | {"landmarks": found.landmarks, "colours": colours}
