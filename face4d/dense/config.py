"""Configuration of a dense decoder, its training, and the frames it learns from."""

from __future__ import annotations

from dataclasses import dataclass

from face4d.runtime.config import TrainingConfig

DECODERS = ("neutral", "ridge", "rbf", "pca", "regional", "s2d")
DEFAULT_DECODER = "regional"


@dataclass(frozen=True, kw_only=True)
class DenseConfig(TrainingConfig):
    """What fixes a decoder and its training; the fields of training itself serve ``s2d``, the others are closed forms.

    Attributes:
        decoder: one of :data:`DECODERS`.
        strength: regularisation, square millimetres (``rbf``: millimetres); 0 = chosen on held-out training subjects or labels.
        reach_mm: distance at which ``regional`` trusts a landmark half as much as one at distance 0.
        size_aware: ``regional`` sees all faces in the size of the mean face.
        denoise: ``regional`` may expect noise on the landmarks and filter it; how much is chosen like the strength.
        components: principal components of ``pca``; 204 = as many numbers as the landmarks have.
        lr_decay: factor on the learning rate after every epoch.
        weight_decay: of Adam, added to the gradient.
        split, fold: what is tested (:func:`face4d.dense.protocol.make_fold`); fold 0 = nothing, all frames are learnt from.
        frame_step, test_frame_step: every n-th frame of each training and test sequence.
        subjects_fraction: part of the training subjects.
        noise_landmarks_mm, noise_vertices_mm: standard deviation per coordinate of noise on all landmarks and on training vertices.
    """

    decoder: str = DEFAULT_DECODER
    strength: float = 0.0
    reach_mm: float = 10.0
    size_aware: bool = True
    denoise: bool = True
    components: int = 204
    lr: float = 1e-3
    lr_schedule: str = "constant"
    lr_decay: float = 0.99
    weight_decay: float = 5e-5
    epochs: int = 300
    batch_size: int = 16
    grad_clip: float = 0.0
    validate_every: int = 10
    seed: int = 2
    split: str = "identity"
    fold: int = 0
    frame_step: int = 1
    test_frame_step: int = 1
    subjects_fraction: float = 1.0
    noise_landmarks_mm: float = 0.0
    noise_vertices_mm: float = 0.0
