"""What an encoder makes of faces that are known: one picture to look at."""

from __future__ import annotations

import numpy as np
import torch

from face4d.mesh.alignment import fit_similarity
from face4d.reconstruction.deca import Reconstructor
from face4d.reconstruction.pictures import clay, draw
from face4d.reconstruction.rendered_faces import RenderedFaces

_REACH = 0.145  # metres from the middle of a neutral face to the edge of its picture


def preview(reconstructor: Reconstructor, faces: RenderedFaces) -> np.ndarray:
    """A picture (4 S, N S, 3) uint8 of N faces with pictures of S pixels: the picture, the face found over it, the neutral face found, the true one.

    Neutral faces look ahead; the one found is laid on the true one by a similarity, as for the scores.
    """
    model = reconstructor.face
    found, size = reconstructor(faces.pictures(), detail=False), faces.images.shape[-1]
    placed = found.in_crop(found.vertices, size).double().cpu().numpy()  # (N, V, 3) pixels
    with torch.no_grad():
        true = model.neutral(faces.code.shape).double().cpu().numpy()  # (N, V, 3) metres
    neutral, mesh = found.neutral.double().cpu().numpy(), model.uv.mesh_faces
    columns = []
    for picture, vertices, told, wanted in zip(faces.pictures().permute(0, 2, 3, 1).cpu().numpy(), placed, neutral, true):
        middle = (wanted.min(axis=0) + wanted.max(axis=0)) / 2
        ahead = [_ahead(points - middle, size) for points in (fit_similarity(told, wanted).apply(told), wanted)]
        white = np.ones_like(picture)
        views = [(picture, vertices), (white, ahead[0]), (white, ahead[1])]
        columns.append(np.concatenate([picture, *(clay(under, points, mesh, draw(points, mesh, size, size), 1.0) for under, points in views)]))
    return (np.concatenate(columns, axis=1).clip(0, 1) * 255).round().astype(np.uint8)


def _ahead(vertices: np.ndarray, size: int) -> np.ndarray:
    """Vertices (V, 3), metres from the middle, in pixels of a picture from the front: x right, y down, z away."""
    return vertices * [1, -1, -1] * (size / (2 * _REACH)) + [size / 2, size / 2, 0]
