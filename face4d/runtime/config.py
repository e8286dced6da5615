"""What the configurations of all models share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from face4d.errors import InputError

Config = TypeVar("Config", bound="TrainingConfig")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What fixes the training of any model; saved inside its checkpoint.

    Attributes:
        lr: learning rate of Adam; the peak of a one-cycle schedule.
        lr_schedule: ``constant`` or ``one-cycle`` (linear rise over a tenth of the steps, cosine fall to zero).
        epochs: passes over the training sequences.
        batch_size: sequences per batch.
        grad_clip: largest gradient norm; 0 = off.
        select: weights kept: ``last``, ``validation`` (best on held-out training subjects) or ``test`` (best on the test set, as the
            thesis: its score is then no longer that of unseen data).
        validate_every: epochs between validations.
        patience: validations without improvement before training stops; 0 = never.
        precision: of the products in training: ``fp32``, ``tf32`` (factors rounded to 10 bits, on GPUs that do so) or ``bf16`` (rounded to 7);
            sums, weights and optimiser are float32 always.
        seed: seed of weights, shuffling and augmentation.
    """

    lr: float
    lr_schedule: str = "one-cycle"
    epochs: int
    batch_size: int
    grad_clip: float = 1.0
    select: str = "last"
    validate_every: int
    patience: int = 0
    precision: str = "fp32"
    seed: int = 27

    def __post_init__(self) -> None:
        if self.patience and self.select == "last":
            raise InputError("--patience", "--select validation or test", "--select last, which scores nothing")

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, for checkpoints and JSON."""
        return asdict(self)

    def with_flags(self: Config, flags: dict[str, Any]) -> Config:
        """A copy with every flag that was given (is not None)."""
        names = {field.name for field in fields(self)}
        return replace(self, **{key: value for key, value in flags.items() if key in names and value is not None})
