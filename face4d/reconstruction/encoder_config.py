"""Configuration of the encoder's training."""

from __future__ import annotations

from dataclasses import dataclass

from face4d.errors import InputError
from face4d.runtime.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TrainingConfig):
    """Network and training of the coarse encoder.

    Attributes:
        backbone: ``small``, ``resnet18`` or ``resnet50``.
        hidden: numbers between the two linear layers.
        image_size: pixels a side of what it sees.
        faces, held_out: rendered for training and for the scores.
        photometric_faces: faces of each batch that are drawn again as predicted and compared with their pictures; 0 = none.
        undrawn_faces: faces per batch of which the small network sees the true points only, with noise.
        weight_code, weight_vertices, weight_landmarks, weight_points, weight_light, weight_photometric: of the losses. Points:
            of the small network.
        disguised: share of each batch's pictures that :func:`~face4d.reconstruction.disguise.disguise` changes, in the first 60 % of all steps.
        noise: standard deviation of the noise added to pictures, of 0..1.
    """

    lr: float = 3e-3
    epochs: int = 30
    batch_size: int = 32
    validate_every: int = 1
    backbone: str = "small"
    hidden: int = 512
    image_size: int = 112
    faces: int = 8_000
    held_out: int = 256
    photometric_faces: int = 1
    undrawn_faces: int = 256
    weight_code: float = 0.5
    weight_vertices: float = 3.0
    weight_landmarks: float = 1.0
    weight_points: float = 1.0
    weight_light: float = 0.2
    weight_photometric: float = 0.2
    disguised: float = 0.5
    noise: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < 32 or self.faces < 2 or self.held_out < 1 or self.batch_size < 2:
            wanted = "pictures of at least 32 pixels, batches and training sets of at least 2 faces, 1 held out"
            raise InputError("encoder training", wanted, f"{self}")
        if not 0 <= self.disguised <= 1:
            raise InputError("--disguised", "a share, 0 to 1", f"{self.disguised:g}")
