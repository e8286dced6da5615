"""The decoders as modules: landmark displacements and a neutral face in, vertex displacements out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE, NUM_LANDMARKS
from face4d.dense.denoise import LandmarkDenoiser
from face4d.dense.rbf import interpolation_matrix

WIDTH = 3 * NUM_LANDMARKS


class NeutralDecoder(nn.Module):
    """No motion at all: the error that any decoder has to beat."""

    def forward(self, displacement: Tensor, vertices: Tensor, landmarks: Tensor) -> Tensor:
        """See :meth:`LinearDecoder.forward`."""
        return displacement.new_zeros(len(displacement), len(vertices), 3)


class LinearDecoder(nn.Module):
    """One matrix from landmark to vertex displacements.

    Args:
        num_vertices: V.
        size_aware: see all faces in the size of the mean face: landmark displacements are divided, vertex displacements multiplied, axis by
            axis, by the extent of the neutral face's landmarks over that of the mean face's.
        denoise: filter the landmark displacements (of the mean face's size) before.
    """

    weights: Tensor
    mean_extent: Tensor

    def __init__(self, num_vertices: int, *, size_aware: bool = False, denoise: bool = False) -> None:
        super().__init__()
        self.size_aware = size_aware
        self.denoiser = LandmarkDenoiser(WIDTH) if denoise else nn.Identity()
        self.register_buffer("weights", torch.zeros(WIDTH, 3 * num_vertices))
        self.register_buffer("mean_extent", torch.ones(3))

    def size(self, landmarks: Tensor) -> Tensor:
        """(..., 3) size of faces with neutral landmarks (..., 68, 3) along each axis, 1 = the mean face's."""
        extent = landmarks.amax(dim=-2) - landmarks.amin(dim=-2)
        return extent / self.mean_extent if self.size_aware else torch.ones_like(extent)

    def forward(self, displacement: Tensor, vertices: Tensor, landmarks: Tensor) -> Tensor:
        """Vertex displacements (B, V, 3) of one face.

        Args:
            displacement: (B, 68, 3) of its landmarks, metres.
            vertices: (V, 3), its neutral face, metres.
            landmarks: (68, 3) of the neutral face, metres.
        """
        size = self.size(landmarks)  # (3,)
        inputs = (displacement / size).flatten(1)  # (B, 204)
        moved = self.denoiser(inputs * MM_PER_METRE) @ self.weights / MM_PER_METRE  # (B, 3V)
        return moved.unflatten(1, (-1, 3)) * size


class RbfDecoder(nn.Module):
    """Radial basis functions over each neutral face; learns nothing but how closely to follow the landmarks."""

    smoothing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("smoothing", torch.zeros(()))  # metres
        self._matrix: tuple[bytes, Tensor] | None = None  # of the last face

    def forward(self, displacement: Tensor, vertices: Tensor, landmarks: Tensor) -> Tensor:
        """See :meth:`LinearDecoder.forward`."""
        key = landmarks.cpu().numpy().tobytes() + vertices.cpu().numpy().tobytes()
        if self._matrix is None or self._matrix[0] != key:
            matrix = interpolation_matrix(landmarks.cpu().numpy(), vertices.cpu().numpy(), self.smoothing.item())
            self._matrix = key, torch.from_numpy(matrix.astype(np.float32)).to(displacement)
        return torch.einsum("lv,blc->bvc", self._matrix[1], displacement)


class SpiralDecoder(nn.Module):
    """The Sparse2Dense network; it looks at the landmark displacements alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, displacement: Tensor, vertices: Tensor, landmarks: Tensor) -> Tensor:
        """See :meth:`LinearDecoder.forward`."""
        return self.network(displacement.flatten(1))
