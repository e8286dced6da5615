"""The thesis' sequence classifier: a bidirectional LSTM over landmark displacements."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from face4d.constants import NUM_LANDMARKS


class ExpressionClassifier(nn.Module):
    """Label of a landmark sequence [T].

    LSTM(3L, H, layers, bidirectional) over all frames; its initial states are linear in the first frame (``fc_inh``,
    ``fc_inc``); the time mean of the top layer's outputs, 2H numbers, is the feature vector of FID and t-SNE and goes
    through ``fc_classification``. In the original the initial states of a batch were mixed between its samples; here a
    batch gives the same as its samples one by one. State-dict names are those of the original.

    Args:
        num_labels: classes C.
        hidden_size: states per direction H.
        layers: stacked LSTM layers.
        input_scale: displacements in metres are multiplied by it: 1 in the thesis; about 1 / their root mean square
            trains far faster.
        num_landmarks: points per frame L.

    Example:
        >>> model = ExpressionClassifier(12, hidden_size=64)
        >>> model(torch.zeros(5, 41, 68, 3)).shape
        torch.Size([5, 12])
    """

    def __init__(
        self,
        num_labels: int,
        hidden_size: int,
        layers: int = 1,
        *,
        input_scale: float = 1.0,
        num_landmarks: int = NUM_LANDMARKS,
    ) -> None:
        super().__init__()
        self.hidden_size, self.layers, self.input_scale = hidden_size, layers, input_scale
        points, states = 3 * num_landmarks, 2 * layers * hidden_size
        self.lstm = nn.LSTM(points, hidden_size, layers, bidirectional=True, batch_first=True)
        self.fc_inh = nn.Linear(points, states)
        self.fc_inc = nn.Linear(points, states)
        self.fc_classification = nn.Linear(2 * hidden_size, num_labels)

    def features(self, displacement: Tensor) -> Tensor:
        """Feature vectors.

        Args:
            displacement: (B, T, L, 3) metres, landmarks minus neutral landmarks; any T >= 1.

        Returns:
            (B, 2H), forward states first.
        """
        x = displacement.flatten(2) * self.input_scale  # (B, T, 3L)
        first = x[:, 0]  # (B, 3L)
        initial = self._states(self.fc_inh(first)), self._states(self.fc_inc(first))
        outputs, _ = self.lstm(x, initial)  # (B, T, 2H)
        return outputs.mean(dim=1)

    def forward(self, displacement: Tensor) -> Tensor:
        """Logits (B, C) of displacements (B, T, L, 3) in metres."""
        return self.fc_classification(self.features(displacement))

    def _states(self, flat: Tensor) -> Tensor:
        """(B, 2 * layers * H) -> (2 * layers, B, H), each sample keeping its own numbers."""
        return flat.unflatten(1, (2 * self.layers, self.hidden_size)).transpose(0, 1).contiguous()


@torch.no_grad()
def logits_of(model: ExpressionClassifier, displacements: Tensor, batch_size: int = 64) -> Tensor:
    """Logits (N, C) of displacements (N, T, L, 3) in metres, batch by batch, without gradients."""
    return torch.cat([model(batch) for batch in displacements.split(batch_size)])
