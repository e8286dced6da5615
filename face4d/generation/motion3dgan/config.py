"""Configuration of Motion3DGAN and its training, and the two presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from face4d.runtime.config import BatchSize, Count, CountOrNone, Epochs, Rate, Share, TrainingConfig, Weight, setting
from face4d.runtime.fields import integer, number, one_of


@dataclass(frozen=True, kw_only=True)
class MotionGANConfig(TrainingConfig):
    """What fixes the networks of a Motion3DGAN and their training.

    Attributes:
        model: tells its checkpoints from those of the LSTM generators.
        points: N, velocities per motion; a motion has N + 1 frames, other lengths are interpolated in time.
        parameter: ``time``, or ``arc-length`` along the curve (as published; forgets when and how fast things happen).
        clip: largest cosine of an angle in the losses and maps, 0.98 as published; 0 = not clipped.
    """

    model: Annotated[str, one_of("motion3dgan")] = "motion3dgan"
    chosen_by: ClassVar[str] = "model motion3dgan"
    name_format: ClassVar[str] = "{dataset}_motion3dgan_{preset}_{lr:g}"
    network: Annotated[str, one_of("coefficients", "convolution")] = setting(
        "coefficients",
        "what a Motion3DGAN makes: principal coefficients of motions, or maps by convolution, as published",
    )
    hidden_size: Annotated[int, integer(1, 8192)] = setting(256, "width of the dense networks", "H")
    components: Annotated[int, integer(0, 10_000)] = setting(64, "principal coefficients of motions", "K")
    width: Annotated[float, number(0, 16, above=True)] = setting(1.0, "factor on the channels of convolutions", "X")
    noise_size: Annotated[int, integer(1, 4096)] = setting(8, "random numbers per motion", "Z")
    points: Annotated[int, integer(4, 10_000)] = setting(30, "velocities per motion", "N")
    parameter: Annotated[str, one_of("time", "arc-length")] = setting("time", "what the points are equally spaced in")
    warps: CountOrNone = setting(
        20, "versions of every training sequence, warped in time to other apex times; 0 = itself", "M"
    )
    critic_steps: Count = setting(2, "critic steps per generator step", "N")
    critic_norm: Annotated[str, one_of("layer", "batch", "none")] = setting(
        "layer", "how the critic normalises; batch = as published"
    )
    penalty: Weight = setting(10.0, "weight of the gradient penalty", "X")
    tangent_weight: Weight = setting(
        0.0, "weight of the L1 distance of tangent vectors to a real motion of the label", "X"
    )
    geodesic_weight: Weight = setting(0.0, "weight of the angle to a real motion of the label", "X")
    clip: Share = 0.0
    averaging: Annotated[float, number(0, 0.999999)] = setting(
        0.999, "decay of the exponential average of the generator's weights, which is used in the end; 0 = none", "X"
    )
    steps_per_epoch: Count = setting(100, "generator steps that count as an epoch", "N")
    lr: Rate = setting(2e-3, "learning rate of Adam; peak of a one-cycle schedule")
    epochs: Epochs = setting(30, "times --steps-per-epoch")
    batch_size: BatchSize = setting(64, "motions per step", "B")
    grad_clip: Weight = setting(0.0, "largest gradient norm, 0 = off", "NORM")
    precision: Annotated[str, one_of("fp32")] = "fp32"  # the penalty differentiates twice
    validate_every: Epochs = setting(10, "epochs between validations", "EPOCHS")

    @property
    def small(self) -> bool:
        return self.network == "coefficients" and self.hidden_size <= 256

    def unused(self) -> Mapping[str, str]:
        other, fields = (
            ("coefficients", ("hidden_size", "components"))
            if self.network == "convolution"
            else ("convolution", ("width",))
        )
        return {**super().unused(), **dict.fromkeys(fields, f"--network {other}")}


PRESETS: dict[str, MotionGANConfig] = {
    "default": MotionGANConfig(),
    "published": MotionGANConfig(
        network="convolution",
        noise_size=128,
        parameter="arc-length",
        warps=0,
        critic_steps=4,
        critic_norm="batch",
        tangent_weight=10.0,
        geodesic_weight=10.0,
        clip=0.98,
        averaging=0.0,
        lr=1e-4,
        lr_schedule="constant",
        epochs=200,
    ),
}
