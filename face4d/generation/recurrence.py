"""The recurrence that the LSTMCell generators in principal coefficients share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from face4d.constants import NUM_LANDMARKS
from face4d.generation.unroll import unroll_coefficients


class CoefficientRecurrence(nn.Module):
    """An LSTMCell that feeds back whitened principal coefficients.

    The displacement x is represented by K coefficients z = (x @ basis) / scale of an orthonormal basis without mean
    (the zero displacement, the neutral face, stays zero). Label code e and the code p_t of frame t go into every step
    and past the LSTM into the output layer: [h_0; c_0] = tanh(fc_init([z_0, e])); (h_t, c_t) = LSTMCell([r_{t-1}, e,
    p_t], (h_{t-1}, c_{t-1})), r_0 = z_0; r_t = fc_2(relu(fc_1([h_t, e, p_t]))).

    Args:
        num_labels: number of classes C.
        hidden_size: H.
        components: K.
        code_size: P, of p_t.
        num_landmarks: L.
        engine: ``fast`` or ``plain``.
    """

    LABEL_SIZE = 32

    basis: Tensor
    scale: Tensor

    def __init__(
        self,
        num_labels: int,
        hidden_size: int,
        components: int,
        code_size: int,
        num_landmarks: int = NUM_LANDMARKS,
        engine: str = "fast",
    ) -> None:
        super().__init__()
        self.engine = engine
        code_size += self.LABEL_SIZE
        self.register_buffer("basis", torch.zeros(3 * num_landmarks, components))
        self.register_buffer("scale", torch.ones(components))
        self.fc_enc = nn.Embedding(num_labels, self.LABEL_SIZE)
        self.fc_init = nn.Linear(components + self.LABEL_SIZE, 2 * hidden_size)
        self.lstm = nn.LSTMCell(components + code_size, hidden_size)
        self.fc_1 = nn.Linear(hidden_size + code_size, hidden_size)
        self.fc_2 = nn.Linear(hidden_size, components)

    @torch.no_grad()
    def fit_basis(self, displacements: Tensor) -> None:
        """Set basis and scale from training displacements (N, L, 3), metres, by singular value decomposition.

        Components beyond the rank of the data get the scale of rounding noise raised to a micrometre, so that whitening
        stays finite.
        """
        flat = displacements.flatten(1).double()
        _, singular, rows = torch.linalg.svd(flat, full_matrices=False)
        count = min(self.basis.shape[1], len(singular))
        self.basis[:, :count] = rows[:count].T
        self.scale[:count] = singular[:count] / len(flat) ** 0.5
        self.scale.clamp_(min=1e-6)

    def encoded(self, displacements: Tensor) -> Tensor:
        """Coefficients (..., K) of displacements (..., L, 3), metres."""
        return (displacements.flatten(-2) @ self.basis) / self.scale

    def decoded(self, coefficients: Tensor) -> Tensor:
        """Displacements (..., L, 3), metres, of coefficients (..., K)."""
        return ((coefficients * self.scale) @ self.basis.T).unflatten(-1, (-1, 3))

    def recurrence(self, start: Tensor, labels: Tensor, code: Tensor) -> Tensor:
        """The frames r_1 to r_T.

        Args:
            start: (B, L, 3) displacement, metres.
            labels: (B,) class indices.
            code: (T, B, P) p_t, or (T, 1, P) if it is the same for all.

        Returns:
            (B, T, K).
        """
        if self.engine == "fast":
            return unroll_coefficients(self, start, labels, code)
        label_code = self.fc_enc(labels)  # (B, E)
        frame = self.encoded(start)  # (B, K)
        hidden, cell = self.fc_init(torch.cat([frame, label_code], dim=1)).tanh().chunk(2, dim=1)  # (B, H) each
        generated = []
        for position in code:
            codes = torch.cat([label_code, position.expand(len(label_code), -1)], dim=1)  # (B, E + P)
            hidden, cell = self.lstm(torch.cat([frame, codes], dim=1), (hidden, cell))
            frame = self.fc_2(torch.relu(self.fc_1(torch.cat([hidden, codes], dim=1))))
            generated.append(frame)
        return torch.stack(generated, dim=1)


def sufficient_components(displacements: Tensor, lost: float = 1e-5) -> int:
    """The fewest principal coefficients that hold motion but for a share ``lost`` of its sum of squares.

    Args:
        displacements: (N, L, 3) frames, metres.
    """
    flat = displacements.flatten(1).double()
    energy = torch.linalg.eigvalsh(flat.T @ flat).clamp(min=0)  # (3L,) ascending
    return max(1, int((energy.cumsum(0) > lost * energy.sum()).sum()))
