"""Configuration of Motion3DGAN and its training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.errors import InputError
from face4d.runtime.config import Count, CountOrNone, Positive, Share, Size, SizeOrNone, TrainingConfig, Weight
from face4d.runtime.fields import integer, one_of


@dataclass(frozen=True, kw_only=True)
class MotionGANConfig(TrainingConfig):
    """What fixes the networks of a Motion3DGAN and their training.

    Attributes:
        model: tells its checkpoints from those of the LSTM generators.
        network: ``coefficients`` (dense networks on principal coefficients of the motions) or ``convolution`` (as
            published).
        hidden_size: width of the dense networks.
        components: principal coefficients K.
        width: factor on all channels of the convolutions.
        noise_size: random numbers a motion is made from.
        points: N, velocities per motion; a motion has N + 1 frames, other lengths are interpolated in time.
        parameter: what the points are equally spaced in: ``time``, or ``arc-length`` along the curve (as published;
            forgets when and how fast things happen).
        warps: versions of every training sequence with its apex moved to another's time; 0 = the sequence itself.
        critic_steps: critic steps per generator step.
        critic_norm: ``layer``, ``batch`` (as published) or ``none``.
        penalty: weight of the gradient penalty.
        tangent_weight: weight of the mean absolute difference of tangent vectors to a real motion of the same label.
        geodesic_weight: weight of the angle to a real motion of the same label.
        clip: largest cosine of an angle in the losses and maps, 0.98 as published; 0 = not clipped.
        averaging: decay of the exponential average of the generator's weights that is used in the end; 0 = the last
            weights.
        steps_per_epoch: generator steps that count as an epoch.
    """

    model: Annotated[str, one_of("motion3dgan")] = "motion3dgan"
    network: Annotated[str, one_of("coefficients", "convolution")] = "coefficients"
    hidden_size: Size = 256
    components: SizeOrNone = 64
    width: Positive = 1.0
    noise_size: Size = 8
    points: Annotated[int, integer(4, 10_000)] = 30
    parameter: Annotated[str, one_of("time", "arc-length")] = "time"
    warps: CountOrNone = 20
    critic_steps: Count = 2
    critic_norm: Annotated[str, one_of("layer", "batch", "none")] = "layer"
    penalty: Weight = 10.0
    tangent_weight: Weight = 0.0
    geodesic_weight: Weight = 0.0
    clip: Share = 0.0
    averaging: Share = 0.999
    steps_per_epoch: Count = 100
    lr: Positive = 2e-3
    epochs: Count = 30
    batch_size: Count = 64
    grad_clip: Weight = 0.0
    validate_every: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision != "fp32":
            raise InputError(
                "--precision", "fp32 with --model motion3dgan (the penalty differentiates twice)", self.precision
            )
        if not 0 <= self.averaging < 1:
            raise InputError("--averaging", "a number from 0 to below 1", str(self.averaging))


PRESETS: dict[str, MotionGANConfig] = {
    "default": MotionGANConfig(),
    "published": MotionGANConfig(
        network="convolution",
        hidden_size=1024,
        components=0,
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
