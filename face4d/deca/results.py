"""What a reconstruction leaves on disk: parameters, meshes with texture, landmarks, depth, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from face4d.deca.face_model import FaceModel, TextureModel
from face4d.deca.reconstruction import PhotoFace, Reconstruction, Reconstructor
from face4d.mesh.textured import write_coloured_ply, write_textured_obj
from face4d.render.pictures import as_bytes, clay, depth_picture, dots, draw, save_picture, textured
from face4d.render.texture import UvMap, detailed_mesh, sample, uv_map, vertex_colours
from face4d.runtime.atomic import save_npy, save_npz

_PANEL = 512  # largest side of a picture in the overview, pixels


class ResultWriter:
    """Writes photos' faces below a folder, each in a folder of its own.

    Args:
        output: the folder.
        face: the model whose faces they are.
        texture_size: pixels a side of the texture.
        checkpoint: of the encoder that found them, where one has.
        texture_model: of hidden parts, where there is one.
    """

    def __init__(
        self,
        output: str | Path,
        face: FaceModel,
        texture_size: int = 512,
        *,
        checkpoint: Path | None = None,
        texture_model: TextureModel | None = None,
    ) -> None:
        self.output, self.face = Path(output), face
        self.checkpoint, self.texture_model = checkpoint, texture_model
        self.texels = uv_map(self.face.uv, texture_size)
        self.detail_texels: UvMap | None = None

    @classmethod
    def of_encoder(cls, output: str | Path, reconstructor: Reconstructor, texture_size: int = 512) -> ResultWriter:
        """For what an encoder finds."""
        return cls(
            output,
            reconstructor.face,
            texture_size,
            checkpoint=reconstructor.encoder.path,
            texture_model=reconstructor.load_texture_model(),
        )

    def write(self, name: str, found: PhotoFace, *, meshes: bool = True, folder: Path | None = None) -> Path:
        """Write one face: ``<name>_parameters.npz``, ``_landmarks.npy``, ``_landmarks_photo.npy``, ``_overlay.png``,
        ``_depth.png`` and, with ``meshes``, ``_texture.png``, ``_neutral`` and ``_posed`` (``.obj`` with texture,
        ``.ply`` with colours), with a texture model ``_albedo.png`` and, where there is fine displacement,
        ``_detail.obj`` and ``_detail.ply``.

        Args:
            folder: default: one of that name in ``output``.

        Returns:
            The folder.
        """
        folder, faces = folder or self.output / name, self.face.uv.mesh_faces
        height, width = found.photo.shape[:2]
        posed, neutral = found.face.vertices[0].cpu().numpy(), found.face.neutral[0].cpu().numpy()
        save_npz(
            folder / f"{name}_parameters.npz", self.parameters(found.face, found.crop.matrix[None], found.crop.size)
        )
        save_npy(folder / f"{name}_landmarks.npy", found.face.landmarks[0].cpu().numpy())
        save_npy(folder / f"{name}_landmarks_photo.npy", found.landmarks.astype(np.float32))
        drawn = draw(found.placed, faces, height, width)
        save_picture(folder / f"{name}_depth.png", depth_picture(drawn))
        photo, placed, landmarks = found.photo, found.placed, found.landmarks
        if max(height, width) > _PANEL:
            photo, (placed, landmarks) = _smaller(photo, (placed, landmarks))
            drawn = draw(placed, faces, *photo.shape[:2])
        texture, albedo = found.texture(self.face, self.texels, self.texture_model)
        colours = vertex_colours(texture, self.face.uv, len(posed))
        overlays = [
            photo,
            dots(photo, landmarks),
            clay(photo, placed, faces, drawn),
            textured(np.full_like(photo, 0.5), colours, faces, drawn),
        ]
        save_picture(folder / f"{name}_overlay.png", np.concatenate(overlays, axis=1))
        if not meshes:
            return folder
        picture = folder / f"{name}_texture.png"
        save_picture(picture, texture)
        if albedo is not None:
            save_picture(folder / f"{name}_albedo.png", albedo)
        for kind, vertices in (("neutral", neutral), ("posed", posed)):
            write_textured_obj(
                folder / f"{name}_{kind}.obj", vertices, faces, self.face.uv.points, self.face.uv.faces, picture
            )
            write_coloured_ply(folder / f"{name}_{kind}.ply", vertices, faces, colours)
        if found.face.displacement is not None:
            self._write_detail(folder, name, posed, found.face.displacement[0].cpu().numpy(), texture, picture)
        return folder

    def _write_detail(
        self, folder: Path, name: str, posed: np.ndarray, displacement: np.ndarray, texture: np.ndarray, picture: Path
    ) -> None:
        if self.detail_texels is None:
            self.detail_texels = uv_map(self.face.uv, len(displacement))
        mesh = detailed_mesh(posed, self.face.uv, self.detail_texels, displacement)
        write_textured_obj(folder / f"{name}_detail.obj", mesh.vertices, mesh.faces, mesh.uv, mesh.faces, picture)
        place = np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=1) * len(texture) - 0.5
        write_coloured_ply(folder / f"{name}_detail.ply", mesh.vertices, mesh.faces, sample(texture, place))

    def parameters(self, face: Reconstruction, crops: np.ndarray, crop_size: int) -> dict[str, Any]:
        """Arrays of the parameters file: the code's parts (B, ...), ``crop`` (B, 3, 3) photo to crop pixels,
        ``crop_size``, names; of a model that was widened by smooth displacements those in metres, ``offset`` (B, V, 3).
        """
        arrays = {name: value.cpu().numpy() for name, value in face.code.as_dict().items() if value.numel()}
        count = self.face.own_shape
        if count < arrays["shape"].shape[1]:
            arrays["shape"], beyond = np.split(arrays["shape"], [count], axis=1)
            directions = self.face.model.shape_directions[:, :, count:]
            arrays["offset"] = np.einsum("vck,bk->bvc", directions, beyond).astype(np.float32)
        if face.displacement is not None:
            arrays["displacement"] = face.displacement.cpu().numpy()
        names = {"face_model": np.array(self.face.source)}
        if self.checkpoint is not None:
            names["checkpoint"] = np.array(str(self.checkpoint))
        return arrays | {"crop": np.asarray(crops), "crop_size": np.array(crop_size)} | names


def _smaller(photo: np.ndarray, points: tuple[np.ndarray, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A photo (H, W, 3) with ``_PANEL`` pixels along its longer side, and points (N, 3) of it there."""
    height, width = photo.shape[:2]
    factor = _PANEL / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    small = np.asarray(Image.fromarray(as_bytes(photo)).resize(size, Image.Resampling.LANCZOS)) / 255
    centre = np.array([0.5, 0.5, 0.0])  # of a pixel, which keeps its place
    return small, [(part + centre) * factor - centre for part in points]
