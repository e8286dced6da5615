"""Configuration of a dense decoder, its training, and the frames it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from face4d.runtime.config import BatchSize, CountOrNone, Epochs, Positive, Rate, Seed, TrainingConfig, Weight, setting
from face4d.runtime.fields import integer, number, one_of, optional, text

DECODERS = ("neutral", "ridge", "rbf", "pca", "regional", "s2d")
DEFAULT_DECODER = "regional"
_OF_S2D = (
    *("lr", "lr_decay", "weight_decay", "epochs", "batch_size", "grad_clip", "validate_every"),
    *("vertex_weights", "downsampling"),
)
_USED_BY = {  # besides the protocol, which all decoders share
    "strength": ("ridge", "rbf", "pca", "regional"),
    "components": ("pca",),
    "reach_mm": ("regional",),
    "size_aware": ("regional",),
    "denoise": ("regional",),
    **dict.fromkeys(_OF_S2D, ("s2d",)),
    **dict.fromkeys(("lr_schedule", "select", "patience", "precision"), ()),  # s2d decays and keeps the last weights
}


@dataclass(frozen=True, kw_only=True)
class DenseConfig(TrainingConfig):
    """What fixes a decoder and its training; the fields of training itself serve ``s2d``, the others are closed forms.

    Attributes:
        decoder: one of :data:`DECODERS`.
        reach_mm: distance at which ``regional`` trusts a landmark half as much as one at distance 0.
        fold: of ``split``, which is tested (:func:`face4d.dense.frames.make_fold`); 0 = nothing, all frames are learnt
            from.
    """

    decoder: Annotated[str, one_of(*DECODERS)] = DEFAULT_DECODER
    strength: Annotated[float, number(0, 1e12)] = setting(
        0.0,
        "regularisation of closed forms, square mm (rbf: mm); 0 = chosen on held-out training subjects or labels",
        "MM2",
    )
    reach_mm: Positive = 10.0
    size_aware: bool = setting(True, "regional: see all faces in the size of the mean face")
    denoise: bool = setting(
        True, "regional: expect noise on the landmarks if held-out training data are decoded better so"
    )
    components: Annotated[int, integer(1, 10_000)] = setting(204, "principal components of pca", "K")
    lr: Rate = setting(1e-3, "learning rate of Adam in the first epoch")
    lr_decay: Annotated[float, number(0, 1, above=True)] = setting(
        0.99, "factor on the learning rate after every epoch"
    )
    weight_decay: Annotated[float, number(0, 10)] = setting(5e-5, "of Adam, added to the gradient")
    epochs: Epochs = setting(300, "passes over the training frames")
    batch_size: BatchSize = setting(16, "frames per batch", "B")
    grad_clip: Weight = 0.0
    vertex_weights: Annotated[str | None, optional(text)] = setting(
        None, "npy of V weights of vertices in the loss; none = by distance to the landmarks", "FILE"
    )
    downsampling: Annotated[str | None, optional(text)] = setting(
        None, "the authors' downsampling_matrices.pkl; none = a hierarchy of the template", "FILE"
    )
    validate_every: Epochs = setting(10, "epochs between points of the test curve", "EPOCHS")
    seed: Seed = 2
    split: Annotated[str, one_of("identity", "expression")] = setting("identity", "what the test set has unseen")
    fold: CountOrNone = 0
    frame_step: Annotated[int, integer(1, 10_000)] = setting(1, "learn from every N-th frame of a sequence", "N")
    test_frame_step: Annotated[int, integer(1, 10_000)] = setting(1, "score every N-th frame; 1 = the protocol", "N")
    subjects_fraction: Annotated[float, number(0, 1, above=True)] = setting(
        1.0, "part of the training subjects to learn from", "X"
    )
    noise_landmarks_mm: Annotated[float, number(0, 100)] = setting(
        0.0, "standard deviation per coordinate, on all landmarks", "MM"
    )
    noise_vertices_mm: Annotated[float, number(0, 100)] = setting(
        0.0, "standard deviation per coordinate, on training vertices", "MM"
    )

    def unused(self) -> Mapping[str, str]:
        others = {name: " or ".join(users) for name, users in _USED_BY.items() if self.decoder not in users}
        unused = {**super().unused(), **{name: f"--decoder {users}" for name, users in others.items()}}
        return unused if self.fold else {**unused, "test_frame_step": "--fold 1 to 4 or all"}
