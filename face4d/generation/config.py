"""Configuration of a generator and its training, and the two presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from face4d.runtime.config import BatchSize, CountOrNone, Epochs, Rate, TrainingConfig, setting
from face4d.runtime.fields import integer, one_of

CHECKPOINT_KIND = "generator"  # of all generators: a checkpoint's configuration says which model it is


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(TrainingConfig):
    """What fixes an LSTMCell generator and its training.

    Attributes:
        normalise_loss: divide displacements by their root mean square in the loss.
    """

    chosen_by: ClassVar[str] = "model lstm"
    name_format: ClassVar[str] = "{dataset}_{preset}_{loss}_{lr:g}_{hidden_size}"
    network: Annotated[str, one_of("residual", "coefficients", "thesis")] = setting(
        "residual",
        "what an LSTM generator feeds back: principal coefficients, less the mean motion of its label or whole, or "
        "coordinates as in the thesis",
    )
    engine: Annotated[str, one_of("fast", "plain")] = setting(
        "fast", "how the recurrence is computed: by the hand-written unroll, or by torch's LSTMCell through autograd"
    )
    hidden_size: Annotated[int, integer(1, 8192)] = setting(
        128, "width of the network; in the thesis' grid 128 to 2048", "H"
    )
    components: Annotated[int, integer(0, 10_000)] = setting(
        0, "principal coefficients; 0 = as many as hold 99.999 % of the training motion", "K"
    )
    loss: Annotated[str, one_of("l1", "l2")] = setting("l2", "distance to the real motion, mean over all coordinates")
    lr: Rate = setting(4e-3, "learning rate of Adam; peak of a one-cycle schedule")
    epochs: Epochs = setting(150, "passes over the training sequences or, three each, over their labels")
    batch_size: BatchSize = setting(50, "sequences or labels per batch", "B")
    start_frames: Annotated[str, one_of("first", "every")] = setting(
        "first", "generate from frame 0, or one optimiser step from each frame, last to first, as in the thesis"
    )
    warps: CountOrNone = setting(
        8,
        "learn the motions of labels, in --loss l1 with M apex times per label and step; 0 = the sequences as they are",
        "M",
    )
    controls: bool = setting(
        False, "train with onset, apex, hold, offset and strength as inputs, which test.py then takes"
    )
    normalise_loss: bool = True
    validate_every: Epochs = setting(25, "epochs between validations", "EPOCHS")

    @property
    def small(self) -> bool:
        return self.hidden_size <= 256

    def unused(self) -> Mapping[str, str]:
        unused = dict(super().unused())
        if self.network == "thesis":
            unused |= dict.fromkeys(("components", "controls"), "--network residual")
        if self.start_frames == "every":
            unused |= dict.fromkeys(("warps", "controls"), "--start-frames first")
        if self.controls and "controls" not in unused:
            unused["warps"] = "--no-controls"
        return unused

    @property
    def learns_motions(self) -> bool:
        """Whether the motions of labels are learnt (:mod:`face4d.generation.label_motions`), not the sequences."""
        return self.warps > 0 and "warps" not in self.unused()

    @property
    def controlled(self) -> bool:
        """Whether the network follows controls."""
        return self.controls and "controls" not in self.unused()


PRESETS: dict[str, GeneratorConfig] = {
    "default": GeneratorConfig(),
    "thesis": GeneratorConfig(
        network="thesis",
        hidden_size=512,
        loss="l1",
        lr=1e-4,
        lr_schedule="constant",
        epochs=1200,
        batch_size=25,
        start_frames="every",
        grad_clip=0.0,
        normalise_loss=False,
        select="test",
        validate_every=50,
    ),
}

# The author's forty runs: these twenty cells on each data set.
_THESIS_GRID = {"loss": ("l1", "l2"), "lr": (1e-4, 1e-5), "hidden_size": (128, 256, 512, 1024, 2048)}
THESIS_GRIDS = {"coma": _THESIS_GRID, "florence": _THESIS_GRID}
