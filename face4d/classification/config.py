"""Configuration of a classifier and its training, and the two presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from face4d.errors import InputError


@dataclass(frozen=True)
class ClassifierConfig:
    """What fixes a classifier's network and training; saved inside its checkpoint.

    Attributes:
        hidden_size: LSTM states per direction H.
        layers: stacked LSTM layers.
        scale_input: divide displacements by the root mean square of the training set's.
        lr: learning rate of Adam; the peak of a one-cycle schedule.
        lr_schedule: ``constant`` or ``one-cycle`` (linear rise over a fifth of the steps, cosine fall to zero).
        epochs: passes over the training sequences.
        batch_size: sequences per batch.
        augment: train on random variants (:mod:`face4d.classification.augment`).
        grad_clip: largest gradient norm; 0 = off.
        select: weights kept: ``last``, ``validation`` (best on held-out training subjects) or ``test`` (best on the test set, as the
            thesis: its test accuracy is then no longer that of unseen data).
        validate_every: epochs between validations.
        patience: validations without improvement before training stops; 0 = never.
        seed: seed of weights, shuffling and augmentation.
    """

    hidden_size: int = 64
    layers: int = 1
    scale_input: bool = True
    lr: float = 1e-2
    lr_schedule: str = "one-cycle"
    epochs: int = 60
    batch_size: int = 25
    augment: bool = True
    grad_clip: float = 1.0
    select: str = "last"
    validate_every: int = 10
    patience: int = 0
    seed: int = 27

    def __post_init__(self) -> None:
        if self.patience and self.select == "last":
            raise InputError("--patience", "--select validation or test", "--select last, which scores nothing")

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, for checkpoints and JSON."""
        return asdict(self)

    def with_flags(self, flags: dict[str, Any]) -> ClassifierConfig:
        """A copy with every flag that was given (is not None)."""
        names = {field.name for field in fields(self)}
        return replace(self, **{key: value for key, value in flags.items() if key in names and value is not None})


PRESETS: dict[str, ClassifierConfig] = {
    "default": ClassifierConfig(),
    "thesis": ClassifierConfig(
        hidden_size=128,
        layers=2,
        scale_input=False,
        lr=1e-4,
        lr_schedule="constant",
        epochs=2000,
        augment=False,
        grad_clip=0.0,
        select="test",
        validate_every=50,
    ),
}
