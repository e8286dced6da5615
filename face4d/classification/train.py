"""Training of the classifier: one loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from face4d.classification.config import ClassifierConfig
from face4d.classification.model import ExpressionClassifier, logits_of
from face4d.constants import NUM_LANDMARKS
from face4d.datasets.augmentation import vary
from face4d.datasets.landmark_set import LandmarkSplit, tensors
from face4d.datasets.source import SOURCE
from face4d.runtime import distributed
from face4d.runtime.checkpoint import load_checkpoint, load_weights, weights, without_weights
from face4d.runtime.device import autocast, seed_everything
from face4d.runtime.fields import FRAMES, LABELS, METRICS, configuration, integer, number, record, unknown
from face4d.runtime.training import Run, run_epochs, set_learning_rate

CHECKPOINT_KIND = "classifier"
CHECKPOINT_FIELDS = {
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


@torch.no_grad()
def validate(model: ExpressionClassifier, displacements: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and cross-entropy over all frames; draws no random number and changes nothing.

    Args:
        displacements: (N, T+1, L, 3), metres; labels: (N,) class indices.

    Returns:
        ``accuracy`` in 0..1, ``loss`` (mean cross-entropy, nats).
    """
    logits = logits_of(model, displacements)
    return {
        "accuracy": (logits.argmax(1) == labels).double().mean().item(),
        "loss": cross_entropy(logits, labels).item(),
    }


def train(split: LandmarkSplit, config: ClassifierConfig, run: Run) -> dict[str, Any]:
    """Train a classifier on frames 0..T; :func:`face4d.runtime.training.run_epochs` says what is written.

    Args:
        split: sequences of one length; those held out are scored like the test set, and choose the weights with
            ``config.select == "validation"``.

    Returns:
        What metrics.json holds: accuracy and loss of the test and the training set for the weights kept, epoch,
            seconds.
    """
    device = run.device
    data, data_labels = tensors(split.train, split.labels, device)  # (N, T+1, L, 3) metres, (N,)
    sets = {"test": tensors(split.test, split.labels, device), "train": (data, data_labels)}
    if split.held_out or config.select == "validation":
        sets["validation"] = tensors(split.held_out, split.labels, device)

    generator = seed_everything(config.seed)
    rms = data.square().mean().sqrt().item()
    input_scale = 1 / rms if config.scale_input and rms > 0 else 1.0
    size = {
        "hidden_size": config.hidden_size,
        "layers": config.layers,
        "input_scale": input_scale,
        "num_landmarks": data.shape[2],
    }
    model = ExpressionClassifier(len(split.labels), **size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    num_batches = math.ceil(len(data) / config.batch_size)

    def train_epoch(epoch: int) -> dict[str, float]:
        step = (epoch - 1) * num_batches
        loss_sum = torch.zeros((), device=device)
        correct = torch.zeros((), device=device)
        for chosen in torch.randperm(len(data), generator=generator).to(device).split(config.batch_size):
            part = distributed.share(len(chosen))  # of this process; all of it where there is one
            labels = data_labels[chosen][part.rows]  # (B,)
            # (B, T+1, L, 3)
            batch = vary(data, data_labels, chosen, generator, part.rows) if config.augment else data[chosen][part.rows]
            step += 1
            set_learning_rate(optimizer, config, step / (config.epochs * num_batches))
            with autocast(config, device):
                logits = model(batch)  # (B, C)
            optimizer.zero_grad()
            loss = distributed.backward(cross_entropy(logits.float(), labels), model.parameters(), part)
            if config.grad_clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
            optimizer.step()
            loss_sum += loss * len(chosen)
            if part.weight:
                correct += (logits.detach().argmax(1) == labels).sum()
        return {
            "loss/train": loss_sum.item() / len(data),
            "accuracy/train": distributed.total(correct).item() / len(data),
        }

    def scores() -> tuple[dict[str, float], tuple[float, ...]]:
        found = {name: validate(model, *sequences) for name, sequences in sets.items() if name != "train"}
        deciding = found["validation" if config.select == "validation" else "test"]
        # Accuracies of few sequences tie often; among equals the smaller loss is the better classifier.
        return {f"{key}/{name}": value for name, found_in in found.items() for key, value in found_in.items()}, (
            -deciding["accuracy"],
            deciding["loss"],
        )

    return run_epochs(
        model,
        optimizer,
        generator,
        config,
        run,
        kind=CHECKPOINT_KIND,
        identity=split.identity(network=size),
        record=split.record(),
        train_epoch=train_epoch,
        validate=scores,
        final_scores=lambda kept: {
            f"{name}_{key}": value
            for name, sequences in sets.items()
            for key, value in validate(kept, *sequences).items()
        },
    )


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
