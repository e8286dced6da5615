"""Configuration of the encoder's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import AtLeastTwo, Count, CountOrNone, Positive, Share, Size, TrainingConfig, Weight
from face4d.runtime.fields import integer, one_of


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TrainingConfig):
    """Network and training of the coarse encoder.

    Attributes:
        backbone: ``small``, ``resnet18`` or ``resnet50``.
        hidden: numbers between the two linear layers.
        image_size: pixels a side of what it sees.
        faces, held_out: rendered for training and for the scores.
        photometric_faces: faces of each batch that are drawn again as predicted and compared with their pictures; 0 =
            none.
        undrawn_faces: faces per batch of which the small network sees the true points only, with noise.
        weight_code, weight_vertices, weight_landmarks, weight_points, weight_light, weight_photometric: of the losses.
        Points:
            of the small network.
        disguised: share of each batch's pictures that :func:`~face4d.synthetic.augmentation.disguise` changes, in the
            first 60 % of all steps.
        noise: standard deviation of the noise added to pictures, of 0..1.
    """

    lr: Positive = 3e-3
    epochs: Count = 30
    batch_size: AtLeastTwo = 32
    validate_every: Count = 1
    backbone: Annotated[str, one_of("small", "resnet18", "resnet50")] = "small"
    hidden: Size = 512
    image_size: Annotated[int, integer(32, 2048)] = 112
    faces: AtLeastTwo = 8_000
    held_out: Count = 256
    photometric_faces: CountOrNone = 1
    undrawn_faces: CountOrNone = 256
    weight_code: Weight = 0.5
    weight_vertices: Weight = 3.0
    weight_landmarks: Weight = 1.0
    weight_points: Weight = 1.0
    weight_light: Weight = 0.2
    weight_photometric: Weight = 0.2
    disguised: Share = 0.5
    noise: Weight = 0.02
