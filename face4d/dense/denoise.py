"""Noise taken out of landmark displacements before they are decoded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

SCALES = (0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of the covariance, from faces at rest to the strongest expressions


class LandmarkDenoiser(nn.Module):
    """The expected displacement x of landmarks seen as y = x + white noise, x from a mixture of Gaussians N(0, r C) of one shape and several sizes r.

    Faces are mostly at rest and sometimes far from it, which one Gaussian describes badly. Under each size the expectation is Wiener's filter
    r C (r C + s I)^-1 y; they are averaged with the sizes' probabilities given y. With noise variance s = 0 nothing changes.

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
        """Take C and the sizes' weights (by expectation maximisation) from inputs (N, P) with noise of variance ``noise``."""
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
