"""Configuration of a generator and its training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.errors import InputError
from face4d.runtime.config import Count, CountOrNone, Positive, Size, SizeOrNone, TrainingConfig
from face4d.runtime.fields import one_of


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(TrainingConfig):
    """What fixes a generator's network and training.

    Attributes:
        network: ``thesis`` (coordinates fed back) or ``coefficients`` (principal coefficients fed back).
        hidden_size: LSTMCell width H.
        components: principal coefficients K, for ``coefficients``.
        loss: ``l1`` or ``l2`` (mean squared error), over all coordinates.
        start_frames: ``every`` = one optimiser step from each frame, last to first (the thesis); ``first`` = from frame
            0 only.
        warps: time-warped targets per sequence and step; 0 = none (only with ``first``).
        normalise_loss: divide displacements by their root mean square in the loss.
    """

    network: Annotated[str, one_of("thesis", "coefficients")] = "coefficients"
    hidden_size: Size = 128
    components: SizeOrNone = 16
    loss: Annotated[str, one_of("l1", "l2")] = "l2"
    lr: Positive = 4e-3
    epochs: Count = 150
    batch_size: Count = 50
    start_frames: Annotated[str, one_of("every", "first")] = "first"
    warps: CountOrNone = 8
    normalise_loss: bool = True
    validate_every: Count = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start_frames == "every" and self.warps:
            raise InputError("--warps", "0 with --start-frames every", str(self.warps))


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

# The author's forty runs: these twenty cells on each data set.
_THESIS_GRID = {"loss": ("l1", "l2"), "lr": (1e-4, 1e-5), "hidden_size": (128, 256, 512, 1024, 2048)}
THESIS_GRIDS = {"coma": _THESIS_GRID, "florence": _THESIS_GRID}
