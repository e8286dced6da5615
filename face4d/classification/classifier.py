"""A classifier with its checkpoint: scores, loading, use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from face4d.classification.config import ClassifierConfig
from face4d.classification.model import ExpressionClassifier, logits_of
from face4d.constants import NUM_LANDMARKS
from face4d.datasets.source import SOURCE
from face4d.runtime.checkpoint import load_checkpoint, load_weights, weights, without_weights
from face4d.runtime.fields import FRAMES, LABELS, METRICS, Check, configuration, integer, number, record, unknown

CHECKPOINT_KIND = "classifier"
CHECKPOINT_FIELDS: dict[str, Check] = {
    "config": configuration(ClassifierConfig),
    "labels": LABELS,
    "network": record(
        {
            "hidden_size": integer(1, 2**16),
            "layers": integer(1, 100),
            "input_scale": number(0, above=True),
            "num_landmarks": integer(NUM_LANDMARKS, NUM_LANDMARKS),
        },
        others=unknown,
    ),
    "frames": FRAMES,
    "source": SOURCE,
    "model": weights,
    "metrics": METRICS,
}


@dataclass(frozen=True)
class Recognition:
    """How well labels are recognised.

    Attributes:
        accuracy: share of the sequences, 0..1.
        loss: mean cross-entropy, nats.
    """

    accuracy: float
    loss: float


@torch.no_grad()
def recognition(model: ExpressionClassifier, displacements: Tensor, labels: Tensor) -> Recognition:
    """Accuracy and cross-entropy over all frames; draws no random number and changes nothing.

    Args:
        displacements: (N, T+1, L, 3), metres.
        labels: (N,) class indices.
    """
    logits = logits_of(model, displacements)
    return Recognition((logits.argmax(1) == labels).double().mean().item(), cross_entropy(logits, labels).item())


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and what was saved with it.

    Attributes:
        path: its checkpoint.
        model: in evaluation mode.
        labels: class names in the order of the class indices.
        frames: frames of a training sequence, the neutral one included.
        source: where its data came from, as typed when it was trained.
        metrics: scores of the training run.
    """

    path: Path
    model: ExpressionClassifier
    labels: tuple[str, ...]
    frames: int
    source: dict[str, Any]
    metrics: dict[str, Any]

    @torch.no_grad()
    def features(self, displacements: Any, batch_size: int = 64) -> Tensor:
        """Time-mean features (N, 2H) float32, on the CPU, of displacements (N, T, L, 3) in metres (tensor or array)."""
        device = next(self.model.parameters()).device
        batches = torch.as_tensor(displacements, dtype=torch.float32, device=device).split(batch_size)
        return torch.cat([self.model.features(batch) for batch in batches]).cpu()

    def predict(self, displacements: Any) -> Tensor:
        """Class indices (N,) int64, on the CPU, of displacements (N, T, L, 3) in metres (tensor or array)."""
        device = next(self.model.parameters()).device
        batch = torch.as_tensor(displacements, dtype=torch.float32, device=device)
        return logits_of(self.model, batch).argmax(1).cpu()


def load_classifier(path: str | Path, *, device: torch.device | str = "cpu") -> Classifier:
    """Load a classifier checkpoint.

    Raises:
        InputError: it is missing, damaged, of another program or does not fit its own configuration.
    """
    content = load_checkpoint(path, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
    with without_weights():
        model = ExpressionClassifier(len(content["labels"]), **content["network"])
    load_weights(model, content["model"], path)
    model.to(device).eval()
    return Classifier(
        Path(path), model, tuple(content["labels"]), content["frames"], content["source"], content["metrics"]
    )
