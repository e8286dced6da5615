"""Dense decoders as modules: noise filter, then landmark displacements and a neutral face to vertex displacements."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE, NUM_LANDMARKS
from face4d.dense.closed_form import interpolation_matrix

# of the covariance, from faces at rest to the strongest expressions
SCALES = (0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class LandmarkDenoiser(nn.Module):
    """The expected displacement x of landmarks seen as y = x + white noise, x from a mixture of Gaussians N(0, r C) of
    one shape and several sizes r.

    Faces are mostly at rest and sometimes far from it, which one Gaussian describes badly. Under each size the
    expectation is Wiener's filter r C (r C + s I)^-1 y; they are averaged with the sizes' probabilities given y. With
    noise variance s = 0 nothing changes.

    Args:
        width: P = 3 L coordinates.
    """

    directions: Tensor
    variances: Tensor
    noise: Tensor
    scales: Tensor
    log_weights: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.eye(width))  # columns: eigenvectors of C
        self.register_buffer("variances", torch.zeros(width))  # eigenvalues of C
        self.register_buffer("noise", torch.zeros(()))  # variance s
        self.register_buffer("scales", torch.tensor(SCALES))
        self.register_buffer("log_weights", torch.full((len(SCALES),), -float(np.log(len(SCALES)))))

    def _log_likelihood(self, squares: Tensor) -> Tensor:
        """(B, R) log p(y | r) up to a constant, from squared coefficients (B, P)."""
        total = self.scales[:, None] * self.variances + self.noise  # (R, P)
        return -0.5 * (squares @ (1 / total).T + total.log().sum(dim=1))

    def fit(self, inputs: Tensor, noise: float, rounds: int = 50) -> LandmarkDenoiser:
        """Take C and the sizes' weights (by expectation maximisation) from inputs (N, P) with noise of variance
        ``noise``.
        """
        variances, directions = torch.linalg.eigh(inputs.double().T @ inputs.double() / len(inputs))
        self.directions.copy_(directions)
        self.variances.copy_((variances - noise).clamp_min(1e-3 * noise))
        self.noise.fill_(noise)
        if noise:
            likelihood = self._log_likelihood((inputs @ self.directions).square())
            for _ in range(rounds):
                posterior = torch.softmax(likelihood + self.log_weights, dim=1)
                self.log_weights.copy_(posterior.mean(dim=0).clamp_min(1e-12).log())
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, P) expected displacements for (B, P) seen ones, in the unit of the fit."""
        if not self.noise:
            return inputs
        coefficients = inputs @ self.directions  # (B, P)
        posterior = torch.softmax(self._log_likelihood(coefficients.square()) + self.log_weights, dim=1)  # (B, R)
        signal = self.scales[:, None] * self.variances  # (R, P)
        return (coefficients * (posterior @ (signal / (signal + self.noise)))) @ self.directions.T


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
        size_aware: see all faces in the size of the mean face: landmark displacements are divided, vertex displacements
            multiplied, axis by axis, by the extent of the neutral face's landmarks over that of the mean face's.
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
