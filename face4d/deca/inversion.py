"""The training set for portrait animation by GAN inversion: one person's photo, moved by the expressions of others.

Lin et al., "3D GAN inversion for controllable portrait image animation", 2022: identity, head pose, camera and light of
a source photo, expression and jaw of each target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, gaussian_filter
from torch import Tensor

from face4d.deca.networks import FaceCode
from face4d.deca.reconstruction import PhotoFace, Reconstructor
from face4d.render.pictures import depth_picture, draw, save_picture
from face4d.render.texture import sample, uv_map
from face4d.runtime.atomic import write_json
from face4d.runtime.progress import track

SMOOTHED_FRAMES = 5
MASK_LEVEL = 100  # of 255: where the mask is below it, the masked picture is black
# metres around an eye's middle where the source's own eyes stay whole; they fade out over as much again
_EYE_RADIUS = 0.024
_EYES = (slice(36, 42), slice(42, 48))  # of the 68 landmarks


@dataclass(frozen=True)
class InversionOptions:
    """How the targets' motion is used.

    Attributes:
        smooth: mean expression and jaw over ``SMOOTHED_FRAMES`` targets around each, for targets that are frames of a
            video.
        expression_scale: factor on the expression coefficients (2 in the paper's exaggerated set).
        keep_eyes: the eye region keeps the source's expression.
    """

    smooth: bool = False
    expression_scale: float = 1.0
    keep_eyes: bool = False


def smoothed(values: Tensor) -> Tensor:
    """Means (T, C) of the values (T, C) over :data:`SMOOTHED_FRAMES` around each, fewer at both ends."""
    reach = SMOOTHED_FRAMES // 2
    return torch.stack([values[max(t - reach, 0) : t + reach + 1].mean(0) for t in range(len(values))])


def moved_codes(source: FaceCode, targets: FaceCode, options: InversionOptions) -> FaceCode:
    """Codes (T) of the source person with the targets' expressions and jaws."""
    expression, jaw = targets.expression, targets.pose[:, 3:]
    if options.smooth:
        expression, jaw = smoothed(expression), smoothed(jaw)
    count = len(expression)
    same = {name: value[:1].expand(count, *value.shape[1:]) for name, value in source.as_dict().items()}
    pose = torch.cat([same["pose"][:, :3], jaw], dim=1)
    return FaceCode(**same | {"expression": expression * options.expression_scale, "pose": pose})


def eye_weights(neutral: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(V,) 1 in the eye region of a neutral face (V, 3) with landmarks (68, 3), falling to 0 around it."""
    weight = np.zeros(len(neutral))
    for eye in _EYES:
        distance = np.linalg.norm(neutral - landmarks[eye].mean(axis=0), axis=1)
        share = np.clip(2 - distance / _EYE_RADIUS, 0, 1)
        weight = np.maximum(weight, share * share * (3 - 2 * share))
    return weight


@torch.inference_mode()
def write_inversion_set(
    output: str | Path,
    name: str,
    source: PhotoFace,
    targets: FaceCode,
    target_names: Sequence[str],
    reconstructor: Reconstructor,
    options: InversionOptions = InversionOptions(),
    *,
    texture_size: int = 1024,
    quiet: bool = False,
) -> list[Path]:
    """Write, for target NNN = 000, 001, ...: ``<name>_NNN_depth.jpg``, ``_rendered_images.jpg`` (the source's texture
    on the new mesh over the source photo), ``_mask.jpg``, ``_masked_rendered_images.jpg`` (black where the mask is
    below 100); and ``<name>_parameters.json``.

    Args:
        source: the face in the source photo.
        targets: codes of N target faces.
        target_names: of N files, for the record.

    Returns:
        The folder and the record.
    """
    output, photo, face = Path(output), source.photo, reconstructor.face
    faces, (height, width) = face.uv.mesh_faces, photo.shape[:2]
    neutral = source.face.neutral[0].cpu().numpy()
    texels = uv_map(face.uv, texture_size)
    texture, _ = source.texture(face, texels, reconstructor.load_texture_model())
    codes = moved_codes(source.face.code, targets, options)
    keep = None
    if options.keep_eyes:
        marks = face.layer.landmarks(shape=source.face.code.shape)[0].cpu().numpy()
        keep = torch.as_tensor(eye_weights(neutral, marks), dtype=torch.float32, device=reconstructor.device)[:, None]
    frames = []
    for number in track("rendering", range(len(codes)), unit="target", quiet=quiet):
        code = codes[number : number + 1]
        vertices, landmarks = face.pose(code)
        if keep is not None:
            own, _ = face.pose(replace(code, expression=source.face.code.expression))
            vertices = vertices + keep * (own - vertices)
        found = replace(source.face, code=code, vertices=vertices, landmarks=landmarks, displacement=None)
        placed = source.crop.to_photo(found.in_crop(vertices, source.crop.size)[0].cpu().numpy().astype(float))
        drawn = draw(placed, faces, height, width)
        uv = drawn.spread(face.uv.points, face.uv.faces)  # (N, 2)
        rendered = np.array(photo, dtype=float)
        mask = gaussian_filter(binary_fill_holes(drawn.mask).astype(float), max(1.0, 0.002 * max(height, width)))
        shown = np.zeros_like(rendered)
        shown[drawn.mask] = sample(texture, np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1) * texture_size - 0.5)
        rendered[drawn.mask] = shown[drawn.mask]
        base = output / f"{name}_{number:03d}"
        save_picture(f"{base}_depth.jpg", depth_picture(drawn))
        save_picture(f"{base}_rendered_images.jpg", rendered)
        save_picture(f"{base}_mask.jpg", mask)
        save_picture(f"{base}_masked_rendered_images.jpg", np.where((mask * 255 < MASK_LEVEL)[..., None], 0, rendered))
        places = source.crop.to_photo(found.in_crop(landmarks, source.crop.size)[0].cpu().numpy().astype(float))
        frames.append(
            {"file": base.name, "target": target_names[number], **as_lists(code), "landmarks": places.round(3).tolist()}
        )
    record = output / f"{name}_parameters.json"
    write_json(
        record,
        {
            "source": name,
            "image_size": [width, height],
            "face_model": face.source,
            "checkpoint": str(reconstructor.encoder.path),
            "options": vars(options),
            "source_parameters": as_lists(source.face.code),
            "crop": source.crop.matrix.tolist(),
            "crop_size": source.crop.size,
            "projection": projection(source).tolist(),
            "frames": frames,
        },
    )
    return [output, record]


def as_lists(code: FaceCode) -> dict[str, Any]:
    """The first row of a code as plain lists."""
    return {name: value[0].cpu().numpy().astype(float).round(7).tolist() for name, value in code.as_dict().items()}


def projection(source: PhotoFace) -> np.ndarray:
    """(3, 4): world points (x, y, z, 1) in metres to the photo: x right and y down in pixels, z away from the viewer in
    pixels.
    """
    corners = torch.cat([torch.zeros(1, 3), torch.eye(3)])[None].to(source.face.vertices)  # (1, 4, 3)
    places = source.crop.to_photo(source.face.in_crop(corners, source.crop.size)[0].cpu().numpy().astype(float))
    return np.column_stack([(places[1:] - places[0]).T, places[0]])
