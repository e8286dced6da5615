"""Configuration of a classifier and its training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from face4d.runtime.config import BatchSize, Epochs, Rate, TrainingConfig, setting
from face4d.runtime.fields import integer


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TrainingConfig):
    """What fixes a classifier's network and training."""

    name_format: ClassVar[str] = "classifier_{dataset}_{preset}_{layers}_{lr:g}_{hidden_size}"
    hidden_size: Annotated[int, integer(1, 8192)] = setting(
        64, "LSTM states per direction; in the thesis' grid 128 256 512 1024", "H"
    )
    layers: Annotated[int, integer(1, 16)] = setting(1, "stacked LSTM layers; in the thesis' grid 1 2 3", "N")
    scale_input: bool = setting(True, "divide displacements by the root mean square of the training set's")
    augment: bool = setting(True, "train on random timings, intensities and mixtures")
    lr: Rate = setting(1e-2, "learning rate of Adam; peak of a one-cycle schedule")
    epochs: Epochs = setting(60, "passes over the training sequences")
    batch_size: BatchSize = setting(25, "sequences per batch", "B")
    validate_every: Epochs = setting(10, "epochs between validations", "EPOCHS")

    @property
    def small(self) -> bool:
        return self.hidden_size <= 128


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
