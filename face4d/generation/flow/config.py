"""Configuration of the flow-matching generator and its training, and its preset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from face4d.runtime.config import BatchSize, Count, Epochs, Rate, Share, TrainingConfig, Weight, setting
from face4d.runtime.fields import integer, number, one_of


@dataclass(frozen=True, kw_only=True)
class FlowConfig(TrainingConfig):
    """What fixes a flow-matching generator and its training.

    Attributes:
        model: tells its checkpoints from those of other generators.
    """

    model: Annotated[str, one_of("flow")] = "flow"
    chosen_by: ClassVar[str] = "model flow"
    name_format: ClassVar[str] = "{dataset}_flow_{preset}_{lr:g}"
    hidden_size: Annotated[int, integer(1, 8192)] = setting(256, "width of the velocity network", "H")
    blocks: Annotated[int, integer(1, 64)] = setting(3, "residual blocks of the velocity network", "N")
    components: Annotated[int, integer(1, 10_000)] = setting(
        40, "principal components of what a label's motions differ in", "K"
    )
    smoothing: Annotated[float, number(0, 10)] = setting(
        0.3, "width of the kernel over the training motions, in standard deviations of their label's", "X"
    )
    unlabelled: Share = setting(0.1, "share of the training in which the label is not given", "X")
    sampling_steps: Count = setting(8, "midpoint steps from noise to a motion", "N")
    averaging: Annotated[float, number(0, 0.999999)] = setting(
        0.998, "decay of the exponential average of the weights, which is used in the end; 0 = none", "X"
    )
    steps_per_epoch: Count = setting(100, "steps that count as an epoch", "N")
    lr: Rate = setting(4e-3, "learning rate of Adam; peak of a one-cycle schedule")
    epochs: Epochs = setting(40, "times --steps-per-epoch")
    batch_size: BatchSize = setting(256, "motions per step", "B")
    grad_clip: Weight = setting(0.0, "largest gradient norm, 0 = off", "NORM")
    validate_every: Epochs = setting(10, "epochs between validations", "EPOCHS")

    @property
    def small(self) -> bool:
        return self.hidden_size <= 256


PRESETS: dict[str, FlowConfig] = {"default": FlowConfig()}
