"""How far reconstructed vertices and landmarks are from the true ones."""

from __future__ import annotations

import torch
from torch import Tensor

from face4d.constants import MM_PER_METRE
from face4d.reconstruction.camera import to_screen
from face4d.reconstruction.encoder import FaceCode
from face4d.reconstruction.face_model import FaceModel


def align(points: Tensor, targets: Tensor) -> Tensor:
    """Points (B, N, 3) after the turn, shift and scale that bring them nearest to targets (B, N, 3) in least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991; never a reflection.
    """
    points_mean, targets_mean = points.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    x, y = points - points_mean, targets - targets_mean
    u, singular, v = torch.linalg.svd(y.transpose(1, 2).double() @ x.double())  # (B, 3, 3)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(v))
    turn = (u * sign[:, None]) @ v  # (B, 3, 3)
    scale = (singular * sign).sum(1) / x.double().square().sum((1, 2))
    return (scale[:, None, None] * (x.double() @ turn.transpose(1, 2))).to(points.dtype) + targets_mean


def face_errors(face: FaceModel, predicted: FaceCode, true: FaceCode) -> dict[str, Tensor]:
    """Vertex errors (B,) in mm after scaled rigid alignment: of the neutral face, of the face with its expression, and of the mean face.

    The mean face is the trivial answer: ``mean_face`` beside ``neutral``; beside ``expressive`` the mean face without expression.
    """
    neutral, expressive = face.neutral(true.shape), face.unturned(true)
    mean = torch.as_tensor(face.model.template, dtype=neutral.dtype, device=neutral.device).expand_as(neutral)

    def error(found: Tensor, wanted: Tensor) -> Tensor:
        return (align(found, wanted) - wanted).norm(dim=2).mean(1) * MM_PER_METRE

    return {
        "neutral": error(face.neutral(predicted.shape), neutral),
        "expressive": error(face.unturned(predicted), expressive),
        "mean_face": error(mean, neutral),
        "mean_face_expressive": error(mean, expressive),
    }


def landmark_error(face: FaceModel, predicted: FaceCode, true: FaceCode) -> Tensor:
    """(B,) mean distance of the 68 projected landmarks, in percent of the picture's side."""
    places = [to_screen(face.pose(code)[1], code.camera)[..., :2] for code in (predicted, true)]
    return (places[0] - places[1]).norm(dim=2).mean(1) * 50
