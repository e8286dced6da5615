"""A small encoder that first finds points of the face in the picture and then tells the face from where they are.

Shape, expression, pose and camera are little more than where things are. Maps whose centres are taken ("spatial softmax", Finn et al., "Deep
spatial autoencoders for visuomotor learning", ICRA 2016) find points from few pictures, and the second half, points to codes, can be taught
with any number of faces that are never drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from face4d.constants import NUM_LANDMARKS
from face4d.reconstruction.encoder import CodeLayout
from face4d.reconstruction.resnet import BasicBlock, initialise

NUM_POINTS = 128  # the 68 landmarks, then vertices all over the front of the head


class PointEncoder(nn.Module):
    """Pictures (B, 3, S, S) in 0..1 to codes (B, total).

    Maps of a quarter, an eighth and a sixteenth of the picture's side, and back to an eighth (one step of an hourglass, Newell et al., "Stacked
    hourglass networks for human pose estimation", ECCV 2016): the coarsest maps know where the head is, the middle ones where its parts are.

    Args:
        layout: of the codes.
        hidden: numbers in the layers between points and codes.
        widths: channels of the maps, finest first.
    """

    vertices: Tensor
    point_mean: Tensor
    point_scale: Tensor
    code_mean: Tensor
    code_scale: Tensor

    def __init__(self, layout: CodeLayout, hidden: int = 512, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        self.num_geometry = layout.total - layout.light
        fine, middle, coarse = widths
        self.conv1 = nn.Conv2d(3, fine, 7, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(fine)
        self.fine = BasicBlock(fine, fine, 1)
        self.middle = nn.Sequential(BasicBlock(fine, middle, 2), BasicBlock(middle, middle, 1))
        self.coarse = nn.Sequential(BasicBlock(middle, coarse, 2), BasicBlock(coarse, coarse, 1))
        self.lateral = nn.Conv2d(coarse, middle, 1, bias=False)
        self.merged = BasicBlock(middle, middle, 1)
        self.maps = nn.Conv2d(middle, NUM_POINTS, 1)
        self.geometry = ResidualLayers(2 * NUM_POINTS, hidden, self.num_geometry)
        # normalised: means of rectified maps are all positive, and hidden numbers that are pushed below zero for all pictures learn no more
        self.light = nn.Sequential(nn.BatchNorm1d(coarse), nn.Linear(coarse, hidden), nn.ReLU(), nn.Linear(hidden, layout.light))
        initialise(self)
        self.register_buffer("vertices", torch.zeros(NUM_POINTS - NUM_LANDMARKS, dtype=torch.int64))  # of the face model, which points find
        self.register_buffer("point_mean", torch.zeros(NUM_POINTS, 2))
        self.register_buffer("point_scale", torch.ones(NUM_POINTS, 2))
        self.register_buffer("code_mean", torch.zeros(layout.total))
        self.register_buffer("code_scale", torch.ones(layout.total))

    def fit_scale(self, codes: Tensor, points: Tensor) -> None:
        """Take mean and spread from training codes (N, total) and points (N, P, 2)."""
        self.code_mean.copy_(codes.mean(0))
        self.code_scale.copy_(codes.std(0).clamp_min(1e-6))
        self.point_mean.copy_(points.mean(0))
        self.point_scale.copy_(points.std(0).clamp_min(0.1))  # a point that is not found, far off, must not drown the others

    def find_points(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, P, 2), x right and y down in -1..1 over the picture, and means of the coarsest maps (B, C)."""
        x = functional.relu(self.bn1(self.conv1(images)))  # (B, fine, S/4, S/4)
        middle = self.middle(self.fine(x))  # (B, middle, S/8, S/8)
        coarse = self.coarse(middle)  # (B, coarse, S/16, S/16)
        merged = self.merged(middle + functional.interpolate(self.lateral(coarse), size=middle.shape[2:]))
        maps = self.maps(merged).float()  # (B, P, S/8, S/8)
        height, width = maps.shape[2:]
        share = maps.flatten(2).softmax(2).unflatten(2, (height, width))
        across, down = ((2 * torch.arange(size, device=maps.device) + 1) / size - 1 for size in (width, height))
        return torch.stack([share.sum(2) @ across, share.sum(3) @ down], dim=2), coarse.mean(dim=(2, 3))

    def face_of_points(self, points: Tensor) -> Tensor:
        """Codes without light (B, total - 27) of points (B, P, 2)."""
        geometry = self.geometry(((points - self.point_mean) / self.point_scale).flatten(1)).float()
        return geometry * self.code_scale[: self.num_geometry] + self.code_mean[: self.num_geometry]

    def codes_and_points(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, total), and the points (B, P, 2) they come from."""
        points, means = self.find_points(images)
        light = self.light(means).float() * self.code_scale[self.num_geometry :] + self.code_mean[self.num_geometry :]
        return torch.cat([self.face_of_points(points), light], dim=1), points

    def forward(self, images: Tensor) -> Tensor:
        return self.codes_and_points(images)[0]


class ResidualLayers(nn.Module):
    """Numbers (B, inputs) to numbers (B, outputs): a linear map, and beside it what three layers make of the bends."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.first = nn.Linear(inputs, hidden)
        self.between = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first(x))
        for layer in self.between:
            y = y + functional.relu(layer(y))
        return self.linear(x) + self.last(y)


def spread_vertices(template: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, count: int = NUM_POINTS - NUM_LANDMARKS) -> np.ndarray:
    """(count,) vertices all over the face of a head (V, 3) with 68 landmarks, each as far as can be from those before it.

    They look ahead and lie where a crop of the landmarks shows them: a point beyond the edge of nearly all pictures tells nothing.
    """
    normals = np.zeros_like(template, dtype=np.float64)
    corners = template[faces].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.add.at(normals, faces, across[:, None])
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    beside = np.abs(template[:, :2] - (low + high) / 2).max(1) / (high - low).mean()  # (V,) 0.5: as far from the middle as the landmarks reach
    front = np.flatnonzero((normals[:, 2] > 0.1 * np.linalg.norm(normals, axis=1)) & (beside < 0.62))
    chosen = [int(front[np.argmax(template[front, 2])])]
    distance = np.full(len(front), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(template[front] - template[chosen[-1]], axis=1))
        chosen.append(int(front[np.argmax(distance)]))
    return np.array(chosen)
