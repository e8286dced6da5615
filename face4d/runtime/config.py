"""What the configurations of all models share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, TypeVar

from face4d.errors import InputError
from face4d.runtime.fields import check_config, integer, number, one_of

Config = TypeVar("Config", bound="TrainingConfig")

Count = Annotated[int, integer(1, 10**9)]
AtLeastTwo = Annotated[int, integer(2, 10**9)]
CountOrNone = Annotated[int, integer(0, 10**9)]
Size = Annotated[int, integer(1, 2**16)]  # of a layer
SizeOrNone = Annotated[int, integer(0, 2**16)]
Seed = Annotated[int, integer(-(2**63), 2**63 - 1)]
Positive = Annotated[float, number(0, above=True)]
Weight = Annotated[float, number(0)]
Share = Annotated[float, number(0, 1)]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What fixes the training of any model; saved inside its checkpoint. The annotations are what flags and files are
    checked by.

    Attributes:
        lr: learning rate of Adam; the peak of a one-cycle schedule.
        lr_schedule: ``constant`` or ``one-cycle`` (linear rise over a tenth of the steps, cosine fall to zero).
        epochs: passes over the training sequences.
        batch_size: sequences per batch.
        grad_clip: largest gradient norm; 0 = off.
        select: weights kept: ``last``, ``validation`` (best on held-out training subjects) or ``test`` (best on the
            test set, as the thesis: its score is then no longer that of unseen data).
        validate_every: epochs between validations.
        patience: validations without improvement before training stops; 0 = never.
        precision: of the products in training: ``fp32``, ``tf32`` (factors rounded to 10 bits, on GPUs that do so) or
            ``bf16`` (rounded to 7); sums, weights and optimiser are float32 always.
        seed: seed of weights, shuffling and augmentation.
    """

    lr: Positive
    lr_schedule: Annotated[str, one_of("constant", "one-cycle")] = "one-cycle"
    epochs: Count
    batch_size: Count
    grad_clip: Weight = 1.0
    select: Annotated[str, one_of("last", "validation", "test")] = "last"
    validate_every: Count
    patience: CountOrNone = 0
    precision: Annotated[str, one_of("fp32", "tf32", "bf16")] = "fp32"
    seed: Seed = 27

    def __post_init__(self) -> None:
        check_config(self)
        if self.patience and self.select == "last":
            raise InputError("--patience", "--select validation or test", "--select last, which scores nothing")

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, for checkpoints and JSON."""
        return asdict(self)

    def with_flags(self: Config, flags: dict[str, Any]) -> Config:
        """A copy with every flag that was given (is not None)."""
        names = {field.name for field in fields(self)}
        return replace(self, **{key: value for key, value in flags.items() if key in names and value is not None})
