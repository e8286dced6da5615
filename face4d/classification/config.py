"""Configuration of a classifier and its training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import Count, Positive, Size, TrainingConfig
from face4d.runtime.fields import integer


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TrainingConfig):
    """What fixes a classifier's network and training.

    Attributes:
        hidden_size: LSTM states per direction H.
        layers: stacked LSTM layers.
        scale_input: divide displacements by the root mean square of the training set's.
        augment: train on random variants (:mod:`face4d.datasets.augmentation`).
    """

    hidden_size: Size = 64
    layers: Annotated[int, integer(1, 100)] = 1
    scale_input: bool = True
    augment: bool = True
    lr: Positive = 1e-2
    epochs: Count = 60
    batch_size: Count = 25
    validate_every: Count = 10


PRESETS: dict[str, ClassifierConfig] = {
    "default": ClassifierConfig(),
    "thesis": ClassifierConfig(
        hidden_size=128,
        layers=2,
        scale_input=False,
        augment=False,
        lr=1e-4,
        lr_schedule="constant",
        epochs=2000,
        grad_clip=0.0,
        select="test",
        validate_every=50,
    ),
}

_SIZES = {"lr": (1e-4, 1e-5), "hidden_size": (128, 256, 512, 1024)}
# The author's forty runs: 24 on CoMA, 16 on CoMA_Florence.
THESIS_GRIDS = {"coma": {"layers": (1, 2, 3), **_SIZES}, "florence": {"layers": (1, 2), **_SIZES}}
