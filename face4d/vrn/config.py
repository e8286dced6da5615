"""Configuration of the volume network and its training; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import Epochs, Rate, Share, TrainingConfig, setting
from face4d.runtime.fields import integer, number

CHECKPOINT_KIND = "volume network"


@dataclass(frozen=True, kw_only=True)
class VolumeConfig(TrainingConfig):
    """What fixes a volume network and its training. Defaults: what a CPU learns on rendered heads within minutes."""

    lr: Rate = setting(1e-3, "learning rate of RMSprop; peak of a one-cycle schedule")
    epochs: Epochs = setting(10, "passes over the training samples")
    # for the statistics of the normalisations
    batch_size: Annotated[int, integer(2, 65_536)] = setting(4, "pictures per step", "B")
    validate_every: Epochs = setting(1, "epochs between validations", "EPOCHS")
    width: Annotated[float, number(0, 1, above=True)] = setting(
        0.125, "of all channels, as a share of the published network's", "SHARE"
    )
    phases: Annotated[int, integer(1, 16)] = setting(
        1, "of the volume's 16 interleaved parts that a step looks at, drawn anew each step", "N"
    )
    mirror: bool = setting(True, "mirror every other picture and its volume")
    augmented: Share = setting(
        0.5, "share of the pictures with other colours, shadows, things in front", "SHARE", former="disguised"
    )
