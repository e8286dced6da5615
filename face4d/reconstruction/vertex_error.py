"""How far reconstructed vertices and landmarks are from the true ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from face4d.constants import MM_PER_METRE
from face4d.mesh.alignment import fit_similarity
from face4d.reconstruction.camera import to_screen
from face4d.reconstruction.encoder import FaceCode
from face4d.reconstruction.face_model import FaceModel


def aligned_error(found: Tensor, true: Tensor) -> Tensor:
    """(B,) mean distance in mm of vertices (B, V, 3) from the true ones after the similarity that lays them on each other best."""
    errors = []
    for points, target in zip(found.double().cpu().numpy(), true.double().cpu().numpy()):
        errors.append(np.linalg.norm(fit_similarity(points, target).apply(points) - target, axis=1).mean() * MM_PER_METRE)
    return torch.tensor(errors, dtype=torch.float64)


def face_errors(face: FaceModel, predicted: FaceCode, true: FaceCode) -> dict[str, Tensor]:
    """Vertex errors (B,) in mm after scaled rigid alignment: of the neutral face, of the face with its expression, and of the mean face.

    The mean face is the trivial answer: ``mean_face`` beside ``neutral``; beside ``expressive`` the mean face without expression.
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
