"""Configuration of the encoder's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import AtLeastTwo, CountOrNone, Epochs, Rate, Share, TrainingConfig, Weight, setting
from face4d.runtime.fields import integer, one_of


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TrainingConfig):
    """Network and training of the coarse encoder.

    Attributes:
        undrawn_faces: faces per batch of which the small network sees the true points only, with noise.
        noise: standard deviation of the noise added to pictures, of 0..1.
    """

    faces: AtLeastTwo = setting(8_000, "rendered for training", "N")
    held_out: Annotated[int, integer(1, 100_000)] = setting(256, "rendered for the scores", "N")
    image_size: Annotated[int, integer(32, 2048)] = setting(112, "side of what the encoder sees", "PIXELS")
    backbone: Annotated[str, one_of("small", "resnet18", "resnet50")] = setting("small", "resnet50 is DECA's")
    hidden: Annotated[int, integer(1, 16_384)] = setting(512, "numbers between the last two layers", "H")
    lr: Rate = setting(3e-3, "learning rate of AdamW; peak of a one-cycle schedule")
    epochs: Epochs = setting(30, "passes over the faces")
    batch_size: Annotated[int, integer(2, 65_536)] = setting(32, "faces per step", "B")
    validate_every: Epochs = setting(1, "epochs between validations", "EPOCHS")
    photometric_faces: CountOrNone = setting(
        1, "faces per batch drawn again as predicted and compared with their pictures", "N"
    )
    undrawn_faces: CountOrNone = 256
    weight_code: Weight = setting(0.5, "weight of the loss on code", "X")
    weight_vertices: Weight = setting(3.0, "weight of the loss on vertices", "X")
    weight_landmarks: Weight = setting(1.0, "weight of the loss on landmarks", "X")
    weight_points: Weight = setting(1.0, "weight of the loss on points", "X")
    weight_light: Weight = setting(0.2, "weight of the loss on light", "X")
    weight_photometric: Weight = setting(0.2, "weight of the loss on photometric", "X")
    augmented: Share = setting(
        0.5,
        "share of the pictures with other colours, shadows, things in front, in the first 60 % of the steps",
        "SHARE",
        former="disguised",
    )
    noise: Weight = 0.02

    def unused(self) -> Mapping[str, str]:
        unused = dict(super().unused())
        if self.backbone != "small":
            unused |= dict.fromkeys(("undrawn_faces", "weight_points"), "--backbone small")
        if not self.photometric_faces:
            unused["weight_photometric"] = "--photometric-faces above 0"
        if not self.weight_photometric:
            unused["photometric_faces"] = "--weight-photometric above 0"
        return unused
