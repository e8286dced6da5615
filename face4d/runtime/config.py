"""What the configurations of all models share.

A configuration is a frozen dataclass. Each field says by its annotation what it may hold, which flags and files are
checked by, and by :func:`setting` what it is, which the command line shows as the help of its flag. What the other
fields leave without effect, :meth:`TrainingConfig.unused` names: a record leaves it out, and the command line refuses
its flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, TypeVar

from face4d.errors import InputError
from face4d.runtime.fields import check_config, integer, number, one_of

Config = TypeVar("Config", bound="TrainingConfig")

Epochs = Annotated[int, integer(1, 1_000_000)]
BatchSize = Annotated[int, integer(1, 65_536)]
Count = Annotated[int, integer(1, 1_000_000)]
AtLeastTwo = Annotated[int, integer(2, 1_000_000)]
CountOrNone = Annotated[int, integer(0, 1_000_000)]
Size = Annotated[int, integer(1, 2**16)]  # of a layer
Seed = Annotated[int, integer(-(2**63), 2**63 - 1)]
Rate = Annotated[float, number(0, 10, above=True)]
Positive = Annotated[float, number(0, 1e6, above=True)]
Weight = Annotated[float, number(0, 1e6)]
Share = Annotated[float, number(0, 1)]


def setting(default: Any, help: str, metavar: str | None = None, *, former: str | None = None) -> Any:
    """A field of a configuration that has a flag of its name: its default, and the flag's help; ``former`` is the name
    it had in earlier versions, which files and command lines may still use.
    """
    return field(default=default, metadata={"help": help, "metavar": metavar, "former": former})


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What fixes the training of any model; saved inside its checkpoint.

    Attributes:
        select: weights kept: ``last``, ``validation`` (best on held-out training subjects) or ``test`` (best on the
            test set, as the thesis: its score is then no longer that of unseen data).
        precision: of the products in training: ``fp32``, ``tf32`` (factors rounded to 10 bits, on GPUs that do so) or
            ``bf16`` (rounded to 7); sums, weights and optimiser are float32 always.
        seed: of weights, shuffling and augmentation.
    """

    chosen_by: ClassVar[str] = ""  # the flag, and its value, that chooses such a model among a script's
    name_format: ClassVar[str] = "{dataset}_{preset}_{lr:g}"  # of a run
    lr: Rate = setting(1e-3, "learning rate; peak of a one-cycle schedule")
    lr_schedule: Annotated[str, one_of("constant", "one-cycle")] = setting(
        "one-cycle", "learning rate over all steps: constant, or a rise over a tenth of them and a cosine fall to zero"
    )
    epochs: Epochs = setting(100, "passes over the training data")
    batch_size: BatchSize = setting(32, "training samples per step", "B")
    grad_clip: Weight = setting(1.0, "largest gradient norm, 0 = off", "NORM")
    select: Annotated[str, one_of("last", "validation", "test")] = setting(
        "last",
        "weights kept; validation = best on --validation-subjects, test = best on the test set, as in the thesis",
    )
    validate_every: Epochs = setting(10, "epochs between validations", "EPOCHS")
    patience: CountOrNone = setting(0, "stop after N validations without improvement, 0 = never", "N")
    precision: Annotated[str, one_of("fp32", "tf32", "bf16")] = setting(
        "fp32", "of the products in training; tf32: on GPUs; docs/performance.md"
    )
    seed: Seed = 27

    def __post_init__(self) -> None:
        check_config(self)
        if self.patience and self.select == "last":
            raise InputError("--patience", "--select validation or test", "--select last, which scores nothing")

    def unused(self) -> Mapping[str, str]:
        """Fields that the others leave without effect, by name, each with what would use it:
        ``{"warps": "--start-frames first"}``.
        """
        return {} if self.select != "last" else {"patience": "--select validation or test"}

    def as_dict(self) -> dict[str, Any]:
        """The fields that have an effect, as a plain dictionary for checkpoints and JSON."""
        unused = self.unused()
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @property
    def small(self) -> bool:
        """Whether one CPU thread is the fastest."""
        return False

    def run_name(self, dataset: str, preset: str) -> str:
        """The name of a run where none is given."""
        return self.name_format.format(dataset=dataset, preset=preset, **asdict(self))

    def with_settings(self: Config, settings: Mapping[str, Any]) -> Config:
        """A copy with these values; None, and what is no field, leaves a field as it is."""
        names = {field.name for field in fields(self)}
        return replace(self, **{key: value for key, value in settings.items() if key in names and value is not None})
