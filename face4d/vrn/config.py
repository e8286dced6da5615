"""Configuration of the volume network and its training; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import AtLeastTwo, Count, Positive, Share, TrainingConfig
from face4d.runtime.fields import integer, number

CHECKPOINT_KIND = "volume network"


@dataclass(frozen=True, kw_only=True)
class VolumeConfig(TrainingConfig):
    """What fixes a volume network and its training. Defaults: what a CPU learns on rendered heads within minutes.

    Attributes:
        lr: of RMSprop.
        width: of all channels, as a share of the published network's.
        phases: of the 16 phases of the enlarged volume that each step's loss looks at; 16 is every voxel, 1 is a
            sixteenth, drawn anew each step.
        mirror: every other picture, with its volume.
        disguised: share of each batch's pictures that :func:`~face4d.synthetic.augmentation.disguise` changes.
    """

    lr: Positive = 1e-3
    epochs: Count = 10
    batch_size: AtLeastTwo = 4  # for the statistics of the normalisations
    validate_every: Count = 1
    width: Annotated[float, number(0, 1, above=True)] = 0.125
    phases: Annotated[int, integer(1, 16)] = 1
    mirror: bool = True
    disguised: Share = 0.5
