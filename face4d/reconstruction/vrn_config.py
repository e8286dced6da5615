"""Configuration of the volume network and its training; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from face4d.errors import InputError
from face4d.runtime.config import TrainingConfig

CHECKPOINT_KIND = "volume network"


@dataclass(frozen=True, kw_only=True)
class VolumeConfig(TrainingConfig):
    """What fixes a volume network and its training. Defaults: what a CPU learns on rendered heads within minutes.

    Attributes:
        lr: of RMSprop.
        width: of all channels, as a share of the published network's.
        phases: of the 16 phases of the enlarged volume that each step's loss looks at; 16 is every voxel, 1 is a sixteenth, drawn anew each step.
        mirror: every other picture, with its volume.
        disguised: share of each batch's pictures that :func:`~face4d.reconstruction.disguise.disguise` changes.
    """

    lr: float = 1e-3
    epochs: int = 10
    batch_size: int = 4
    validate_every: int = 1
    width: float = 0.125
    phases: int = 1
    mirror: bool = True
    disguised: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.width <= 1:
            raise InputError("--width", "a share of the published network's channels, above 0 and at most 1", f"{self.width:g}")
        if not 1 <= self.phases <= 16:
            raise InputError("--phases", "1 to 16", f"{self.phases}")
        if self.batch_size < 2:
            raise InputError("--batch-size", "at least 2, for the statistics of the normalisations", f"{self.batch_size}")
        if not 0 <= self.disguised <= 1:
            raise InputError("--disguised", "a share, 0 to 1", f"{self.disguised:g}")
