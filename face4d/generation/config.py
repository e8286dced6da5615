"""Configuration of a generator and its training, and the two presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from torch import nn

from face4d.errors import InputError
from face4d.generation.lstm import CoefficientGenerator, ThesisGenerator


@dataclass(frozen=True)
class GeneratorConfig:
    """What fixes a generator's network and training; saved inside its checkpoint.

    Attributes:
        network: ``thesis`` (coordinates fed back) or ``coefficients`` (principal coefficients fed back).
        hidden_size: LSTMCell width H.
        components: principal coefficients K, for ``coefficients``.
        loss: ``l1`` or ``l2`` (mean squared error), over all coordinates in metres.
        lr: learning rate of Adam; the peak of a one-cycle schedule.
        lr_schedule: ``constant`` or ``one-cycle`` (linear rise over a tenth of the steps, cosine fall to zero).
        epochs: passes over the training sequences.
        batch_size: sequences per batch.
        start_frames: ``every`` = one optimiser step from each frame, last to first (the thesis); ``first`` = from frame 0 only.
        warps: time-warped targets per sequence and step; 0 = none (only with ``first``).
        grad_clip: largest gradient norm, of the loss divided by the data's scale; 0 = off.
        normalise_loss: train on displacements divided by their root mean square.
        select: weights kept: ``last``, ``validation`` (best on held-out training subjects) or ``test`` (best on the test set, as the thesis).
        validate_every: epochs between validations.
        patience: validations without improvement before training stops; 0 = never.
        seed: seed of weights, shuffling and augmentation.
    """

    network: str = "coefficients"
    hidden_size: int = 128
    components: int = 16
    loss: str = "l2"
    lr: float = 4e-3
    lr_schedule: str = "one-cycle"
    epochs: int = 150
    batch_size: int = 50
    start_frames: str = "first"
    warps: int = 8
    grad_clip: float = 1.0
    normalise_loss: bool = True
    select: str = "last"
    validate_every: int = 25
    patience: int = 0
    seed: int = 27

    def __post_init__(self) -> None:
        if self.start_frames == "every" and self.warps:
            raise InputError("--warps", "0 with --start-frames every", str(self.warps))
        if self.patience and self.select == "last":
            raise InputError("--patience", "--select validation or test", "--select last, which scores nothing")

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary, for checkpoints and JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GeneratorConfig:
        """Inverse of :meth:`as_dict`; unknown keys are refused."""
        return cls(**values)

    def with_flags(self, flags: dict[str, Any]) -> GeneratorConfig:
        """A copy with every flag that was given (is not None)."""
        names = {field.name for field in fields(self)}
        return replace(self, **{key: value for key, value in flags.items() if key in names and value is not None})


PRESETS: dict[str, GeneratorConfig] = {
    "default": GeneratorConfig(),
    "thesis": GeneratorConfig(
        network="thesis",
        hidden_size=512,
        components=0,
        loss="l1",
        lr=1e-4,
        lr_schedule="constant",
        epochs=1200,
        batch_size=25,
        start_frames="every",
        warps=0,
        grad_clip=0.0,
        normalise_loss=False,
        select="test",
        validate_every=50,
    ),
}


def build_network(config: GeneratorConfig, num_labels: int, num_landmarks: int = 68) -> nn.Module:
    """The network of a configuration, with fresh weights from torch's global generator."""
    if config.network == "thesis":
        return ThesisGenerator(num_labels, config.hidden_size, num_landmarks)
    return CoefficientGenerator(num_labels, config.hidden_size, config.components, num_landmarks)

