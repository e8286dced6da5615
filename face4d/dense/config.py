"""Configuration of a dense decoder, its training, and the frames it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import Count, CountOrNone, Positive, Seed, Size, TrainingConfig, Weight
from face4d.runtime.fields import number, one_of

DECODERS = ("neutral", "ridge", "rbf", "pca", "regional", "s2d")
DEFAULT_DECODER = "regional"


@dataclass(frozen=True, kw_only=True)
class DenseConfig(TrainingConfig):
    """What fixes a decoder and its training; the fields of training itself serve ``s2d``, the others are closed forms.

    Attributes:
        decoder: one of :data:`DECODERS`.
        strength: regularisation, square millimetres (``rbf``: millimetres); 0 = chosen on held-out training subjects or
            labels.
        reach_mm: distance at which ``regional`` trusts a landmark half as much as one at distance 0.
        size_aware: ``regional`` sees all faces in the size of the mean face.
        denoise: ``regional`` may expect noise on the landmarks and filter it; how much is chosen like the strength.
        components: principal components of ``pca``; 204 = as many numbers as the landmarks have.
        lr_decay: factor on the learning rate after every epoch.
        weight_decay: of Adam, added to the gradient.
        split, fold: what is tested (:func:`face4d.dense.frames.make_fold`); fold 0 = nothing, all frames are learnt
            from.
        frame_step, test_frame_step: every n-th frame of each training and test sequence.
        subjects_fraction: part of the training subjects.
        noise_landmarks_mm, noise_vertices_mm: standard deviation per coordinate of noise on all landmarks and on
            training vertices.
    """

    decoder: Annotated[str, one_of(*DECODERS)] = DEFAULT_DECODER
    strength: Weight = 0.0
    reach_mm: Positive = 10.0
    size_aware: bool = True
    denoise: bool = True
    components: Size = 204
    lr: Positive = 1e-3
    lr_schedule: Annotated[str, one_of("constant", "one-cycle")] = "constant"
    lr_decay: Positive = 0.99
    weight_decay: Weight = 5e-5
    epochs: Count = 300
    batch_size: Count = 16
    grad_clip: Weight = 0.0
    validate_every: Count = 10
    seed: Seed = 2
    split: Annotated[str, one_of("identity", "expression")] = "identity"
    fold: CountOrNone = 0
    frame_step: Count = 1
    test_frame_step: Count = 1
    subjects_fraction: Annotated[float, number(0, 1, above=True)] = 1.0
    noise_landmarks_mm: Weight = 0.0
    noise_vertices_mm: Weight = 0.0
