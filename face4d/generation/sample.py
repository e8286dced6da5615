"""Use of a trained generator: load it, and generate landmark sequences."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE, NUM_LANDMARKS, THESIS_SEED
from face4d.controls import NOT_GIVEN, Controls, GivenControls
from face4d.datasets.layout import canonical_label
from face4d.datasets.source import SOURCE
from face4d.errors import InputError, nearest
from face4d.generation.config import CHECKPOINT_KIND, GeneratorConfig
from face4d.generation.controlled import ControlledGenerator
from face4d.generation.flow.config import FlowConfig
from face4d.generation.flow.fill import Filled, fill
from face4d.generation.flow.networks import MotionFlow
from face4d.generation.lstm import build_network
from face4d.generation.motion3dgan.config import MotionGANConfig
from face4d.generation.motion3dgan.networks import Motion3DGAN
from face4d.resample import resample_cubic
from face4d.runtime import fields
from face4d.runtime.checkpoint import load_checkpoint, load_weights, weights, without_weights
from face4d.runtime.config import TrainingConfig
from face4d.runtime.fields import FRAMES, LABELS, METRICS, Check, configuration, integer, number, optional

log = logging.getLogger(__name__)

STRANGE = 1.0  # what is kept is further from a motion of its label than this many spreads of the label: it is told
SCORED_AT_ONCE = 512  # sequences generated at a time, which bounds the memory of a large test set
# By the model that a configuration names; those of LSTMs name none.
CONFIGURATIONS: dict[str | None, type[TrainingConfig]] = {
    None: GeneratorConfig,
    MotionGANConfig.model: MotionGANConfig,
    FlowConfig.model: FlowConfig,
}
CHECKPOINT_FIELDS: dict[str, Check] = {
    "config": configuration(lambda settings: CONFIGURATIONS.get(settings.get("model"), GeneratorConfig)),
    "labels": LABELS,
    "num_landmarks": integer(NUM_LANDMARKS, NUM_LANDMARKS),
    "frames": FRAMES,
    "source": SOURCE,
    "choice": optional(fields.record({"components": optional(integer(1, 10_000)), "timing": optional(number(0, 1))})),
    "model": weights,
    "metrics": METRICS,
}


@dataclass(frozen=True)
class Generator:
    """A trained generator and what was saved with it.

    Attributes:
        path: its checkpoint.
        network: in evaluation mode.
        labels: class names in the order of the class indices.
        frames: frames of a training sequence, the start frame included (T + 1).
        num_landmarks: L.
        source: where its data came from (``dataset, landmarks, labels, test_subjects, ...``), as typed when it was
            trained.
        metrics: scores of the training run.
    """

    path: Path
    network: nn.Module
    labels: tuple[str, ...]
    frames: int
    num_landmarks: int
    source: dict[str, Any]
    metrics: dict[str, Any]

    def label_index(self, label: str) -> int:
        """Class index of a label, either spelling.

        Raises:
            InputError: unknown; the message lists the known ones.
        """
        try:
            return self.labels.index(canonical_label(label))
        except ValueError:
            raise InputError(
                self.path, f"a label it was trained on ({', '.join(self.labels)})", label + nearest(label, self.labels)
            ) from None

    @property
    def stochastic(self) -> bool:
        """Whether there is more than one answer to a label."""
        return self.controlled or getattr(self.network, "stochastic", False)

    @property
    def controlled(self) -> bool:
        """Whether it follows controls."""
        return isinstance(self.network, (ControlledGenerator, MotionFlow))

    @property
    def fills(self) -> bool:
        """Whether it fills in, see :meth:`fill`."""
        return isinstance(self.network, MotionFlow)

    @torch.no_grad()
    def generate(
        self,
        start: np.ndarray,
        label_indices: np.ndarray,
        frames: int | None = None,
        *,
        seed: int = THESIS_SEED,
        sample: int | None = None,
        controls: Controls | GivenControls = NOT_GIVEN,
        guidance: float = 1.0,
    ) -> np.ndarray:
        """Generate sequences from start displacements.

        A network that follows controls has them in the frames asked for. Others speak in their own number of frames;
        another length is the same motion over more or fewer frames (cubic spline in time), so the whole expression,
        back to neutral, fits any length.

        Args:
            start: (B, L, 3) displacement of frame 0, metres.
            label_indices: (B,) class indices.
            frames: frames to generate after frame 0; default the training length.
            seed: of a stochastic generator's random numbers.
            sample: which of the answers to this seed; each is the same however many are asked for. None is the first
                or, of a generator that follows controls, a typical one: with the mean of those left open, and of a flow
                from the middle of the noise.
            controls: in the frames asked for, (B,) of each; or those given, the others drawn from the label's training
                sequences.
            guidance: of a flow, how much more than learnt it follows label and controls; 1 = as learnt.

        Returns:
            (B, frames + 1, L, 3) float32 displacements, metres; frame 0 is ``start``.

        Raises:
            InputError: controls that cannot be, or for a generator that follows none.
        """
        device = next(self.network.parameters()).device
        first = torch.as_tensor(start, dtype=torch.float32, device=device)  # (B, L, 3)
        indices = torch.as_tensor(label_indices, dtype=torch.int64, device=device)
        state = np.random.SeedSequence([seed % 2**32, sample or 0])
        noise = _noise(state)
        last = frames or self.frames - 1
        if guidance != 1 and not isinstance(self.network, MotionFlow):
            raise InputError(self.path, "a generator with guidance (main.py --model flow)", "one without")
        if controls != NOT_GIVEN and not self.controlled:
            raise InputError(
                self.path, "a generator that follows controls (main.py --controls or --model flow)", "one that does not"
            )
        if isinstance(self.network, MotionFlow):
            rest = self.network(first, indices, last, None if sample is None else noise, controls, guidance)
        elif isinstance(self.network, ControlledGenerator):
            if isinstance(controls, GivenControls):
                random = None if sample is None else np.random.default_rng(state)
                controls = self.network.controls(label_indices, last, controls, random)
            rest = self.network(first, indices, last, torch.as_tensor(controls.array()).to(first), self.frames - 1)
        else:
            rest = self.network(first, indices, self.frames - 1, *((noise,) if self.stochastic else ()))
        sequences = torch.cat([first[:, None], rest], dim=1).cpu().numpy()  # (B, T+1, L, 3)
        if len(sequences[0]) == last + 1:
            return sequences
        return np.stack([resample_cubic(sequence, last + 1) for sequence in sequences])

    def fill(
        self,
        given: np.ndarray,
        mask: np.ndarray,
        label_indices: np.ndarray,
        *,
        seed: int = THESIS_SEED,
        sample: int | None = None,
        controls: GivenControls = NOT_GIVEN,
        guidance: float = 1.0,
    ) -> np.ndarray:
        """Generate sequences that keep given landmarks of given frames, by a flow.

        Args:
            given: (B, frames + 1, L, 3) displacements, metres, read where ``mask`` is true and in frame 0.
            mask: (frames + 1, L) bool.
            label_indices: (B,) class indices.
            seed, sample, controls, guidance: see :meth:`generate`.

        Returns:
            (B, frames + 1, L, 3) float32 displacements, metres, equal to ``given`` where it is given.

        Raises:
            InputError: controls that cannot be, or a generator that does not fill in.
        """
        self.require_fill(controls, len(mask) - 1)
        device = next(self.network.parameters()).device
        one, kept = torch.as_tensor(given, dtype=torch.float32), torch.as_tensor(mask, dtype=torch.bool)
        labels = torch.as_tensor(label_indices, dtype=torch.int64)
        noise = _noise(np.random.SeedSequence([seed % 2**32, sample or 0]))
        assert isinstance(self.network, MotionFlow)
        made = fill(self.network, one.to(device), kept.to(device), labels.to(device), noise, controls, guidance)
        if not sample:  # what is kept is the same in all
            self._note_strange(made, labels)
        return made.motions.cpu().numpy()

    def require_fill(self, controls: GivenControls, last: int) -> None:
        """Raise :class:`InputError` unless :meth:`fill` can, with these controls in frames 0 to ``last``."""
        if not self.fills:
            raise InputError(self.path, "a generator that fills in (main.py --model flow)", "one that does not")
        controls.require_possible(last)

    def _note_strange(self, made: Filled, labels: Tensor) -> None:
        """Say in one line where what is kept is none of the motions that label and controls have."""
        share = (made.beyond / made.spread.clamp(min=1e-9)).cpu()
        strange = int((share > STRANGE).sum())
        if strange:
            worst = int(share.argmax())
            log.warning(
                "note: what is kept is not a motion of %s%s: it is off by %.1f mm, where motions of the label differ "
                "by %.1f mm; it is kept as it is, and the rest is joined to it",
                self.labels[int(labels[worst])],
                f" (the worst of {strange})" if strange > 1 else "",
                MM_PER_METRE * made.beyond[worst].item(),
                MM_PER_METRE * made.spread[worst].item(),
            )


def _noise(state: np.random.SeedSequence) -> torch.Generator:
    """Random numbers on the CPU."""
    return torch.Generator().manual_seed(int(state.generate_state(1, np.uint64)[0]) % 2**63)


@dataclass(frozen=True)
class SequenceErrors:
    """Distances of generated to real sequences, over all of them.

    Attributes:
        mse: mean square of coordinates, square metres.
        l1: mean absolute coordinate, metres.
        mm: mean Euclidean distance of landmarks, millimetres.
        mm_std: standard deviation over all single distances, millimetres.
    """

    mse: float
    l1: float
    mm: float
    mm_std: float


@torch.no_grad()
def sequence_errors(network: nn.Module, displacements: Tensor, labels: Tensor, *given: Tensor) -> SequenceErrors:
    """Errors of frames 1..T generated from frame 0; draws no random number and changes nothing.

    All sequences have one length, so the mean over all elements is the thesis' mean over sequences of the loss at batch
    size one.

    Args:
        displacements: (N, T+1, L, 3), metres.
        labels: (N,) class indices.
        given: (N, ...) what the network gets beside them.
    """
    last = displacements.shape[1] - 1
    parts = zip(*(rows.split(SCORED_AT_ONCE) for rows in (displacements[:, 0], labels, *given)))
    generated = torch.cat([network(start, own, last, *more) for start, own, *more in parts])  # (N, T, L, 3)
    difference = (generated - displacements[:, 1:]).double()
    distance = difference.norm(dim=3) * MM_PER_METRE
    return SequenceErrors(
        mse=difference.square().mean().item(),
        l1=difference.abs().mean().item(),
        mm=distance.mean().item(),
        mm_std=distance.std(correction=0).item(),
    )


def network_of(record: dict[str, Any]) -> nn.Module:
    """The network of a generator checkpoint, without its weights and so without memory for them."""
    shape = len(record["labels"]), record["num_landmarks"]
    with without_weights():
        if record["config"].get("model") == MotionGANConfig.model:
            return Motion3DGAN(MotionGANConfig(**record["config"]), *shape)
        if record["config"].get("model") == FlowConfig.model:
            return MotionFlow(FlowConfig(**record["config"]), *shape)
        components = (record.get("choice") or {}).get("components")  # what the configuration left open
        config = GeneratorConfig(**record["config"]).with_settings({"components": components})
        return build_network(config, *shape)


def load_generator(path: str | Path, *, device: torch.device | str = "cpu") -> Generator:
    """Load a generator checkpoint.

    Raises:
        InputError: it is missing, damaged, of another program, of another set of landmarks or does not fit its own
            configuration.
    """
    record = load_checkpoint(path, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
    network = network_of(record)
    load_weights(network, record["model"], path)
    network.to(device).eval()
    labels = tuple(record["labels"])
    return Generator(
        Path(path), network, labels, record["frames"], record["num_landmarks"], record["source"], record["metrics"]
    )
