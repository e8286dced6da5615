"""An LSTMCell generator that follows controls: when an expression comes and how strong it is.

Controls (:mod:`face4d.controls`) are rows (B, 5) of onset, apex, release, offset in frames and strength.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from face4d.constants import NUM_LANDMARKS
from face4d.controls import (
    Controls,
    GivenControls,
    as_ratios,
    complete,
    find_controls,
    label_directions,
    note_sudden,
    smoothstep,
)
from face4d.generation.control_draws import draw_bank
from face4d.generation.recurrence import CoefficientRecurrence
from face4d.resample import resample_cubic

STRENGTH_LIMIT = 2.0  # beyond it the shape stays, only its size grows
BANK = 256  # controls drawn in advance for every label


class ControlledGenerator(CoefficientRecurrence):
    """LSTMCell generator in whitened principal coefficients that follows controls.

    A motion is the apex of its label a, grown and shrunk by the envelope e_t of the controls, and what the LSTM adds;
    both in proportion to the strength s. With the recurrence r_t of
    :class:`face4d.generation.recurrence.CoefficientRecurrence` over the phases p_t of frame t (:func:`phases`): z_t =
    s (e_t a + r_t); x_t = (z_t * scale) @ basis^T.

    Args:
        num_labels: number of classes C.
        hidden_size: H.
        components: K.
        num_landmarks: L.
        engine: ``fast`` or ``plain``, as for the other generators.
    """

    PHASES = 10

    bank: Tensor

    def __init__(
        self,
        num_labels: int,
        hidden_size: int,
        components: int,
        num_landmarks: int = NUM_LANDMARKS,
        engine: str = "fast",
    ) -> None:
        super().__init__(num_labels, hidden_size, components, self.PHASES, num_landmarks, engine)
        self.register_buffer("bank", torch.zeros(num_labels, BANK, 5))  # ratios, face4d.controls.as_ratios
        self.apex = nn.Embedding(num_labels, components)

    @torch.no_grad()
    def fit(self, displacements: Tensor, labels: Tensor, seed: int) -> np.ndarray:
        """Set what is known before training: basis, the labels' apexes, and the bank of their controls. The network
        then begins as its label's apex times the envelope.

        Args:
            displacements: (N, T + 1, L, 3) training sequences, metres.
            labels: (N,) class indices, each of the C at least once.
            seed: of the bank.

        Returns:
            (C, L, 3) metres, the labels' directions.
        """
        self.fit_basis(displacements.flatten(0, 1))
        moved, indices, last = displacements.cpu().numpy(), labels.cpu().numpy(), displacements.shape[1] - 1
        directions = label_directions(moved, indices, len(self.bank))
        ratios = as_ratios(find_controls(moved, directions[indices]), last)
        self.bank.copy_(
            torch.as_tensor(draw_bank(ratios, indices, len(self.bank), BANK, np.random.default_rng(seed % 2**32)))
        )
        self.apex.weight.copy_(self.encoded(torch.as_tensor(directions).float()))
        self.fc_2.weight.mul_(0.01)
        self.fc_2.bias.zero_()
        return directions

    def forward(self, start: Tensor, labels: Tensor, frames: int, controls: Tensor, steps: int | None = None) -> Tensor:
        """Generate the frames after ``start``.

        The envelope is computed at the frames asked for, however sudden it is; what the LSTM adds, over as many steps
        as it was trained with, is interpolated by a cubic spline.

        Args:
            start: (B, L, 3) displacement, metres.
            labels: (B,) class indices.
            frames: number T of frames to generate.
            controls: (B, 5) onset, apex, release, offset in frames, ``start`` being frame 0; strength.
            steps: of the LSTM over the same time; default T. Others are for use alone, without gradients.

        Returns:
            (B, T, L, 3) displacements, metres; the start frame is not among them.
        """
        code, envelope = phases(controls, frames)  # (T, B, PHASES), (T, B)
        if steps in (None, frames):
            added = self.recurrence(start, labels, code)  # (B, T, K)
        else:
            in_steps = torch.cat([controls[:, :4] * steps / frames, controls[:, 4:]], dim=1)
            own = self.recurrence(start, labels, phases(in_steps, steps)[0])  # (B, steps, K)
            added = start.new_tensor(_resampled(own.cpu().numpy(), frames))
        grown = envelope.T[:, :, None] * self.apex(labels)[:, None]  # (B, T, K)
        return self.decoded(controls[:, 4, None, None] * (grown + added))

    def controls(
        self, labels: np.ndarray, last: int, given: GivenControls, random: np.random.Generator | None = None
    ) -> Controls:
        """Controls for motions of frames 0 to ``last``: those given, and those left open from the label's training
        sequences.

        Args:
            labels: (B,) class indices.
            random: draws what is left open; None takes its mean.

        Raises:
            InputError: controls that cannot be.
        """
        given.require_possible(last)
        own = self.bank[torch.as_tensor(labels, device=self.bank.device)].cpu().double().numpy()  # (B, BANK, 5)
        ratios = own.mean(axis=1) if random is None else own[np.arange(len(own)), random.integers(0, BANK, len(own))]
        found = complete(ratios, given, last)
        if given.times:
            note_sudden(found, last)
        return found


def phases(controls: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Where in its expression each frame 1..T is.

    With u, h and v the shares passed of onset flank, hold and offset flank, each rising from 0 to 1, and S(u) =
    3 u^2 - 2 u^3, the envelope is e = min(S(u), S(1 - v)).

    Args:
        controls: (B, 5) onset, apex, release, offset in frames; strength.
        frames: T.

    Returns:
        (T, B, 10): e, u, h, v, sines of pi u and pi v, durations of flanks and hold over T, strength within its limits;
        and the envelope (T, B).
    """
    onset, apex, release, offset, strength = controls.T  # (B,) each
    time = torch.arange(1, frames + 1, device=controls.device, dtype=controls.dtype)[:, None]  # (T, 1)

    def passed(begin: Tensor, end: Tensor) -> Tensor:
        return ((time - begin) / (end - begin).clamp(min=1e-3)).clamp(0, 1)  # (T, B)

    rise, hold, fall = passed(onset, apex), passed(apex, release), passed(release, offset)
    envelope = torch.minimum(smoothstep(rise), smoothstep(1 - fall))
    durations = [((end - begin) / frames).expand_as(rise) for begin, end in ((onset, apex), (apex, release))]
    durations.append(((offset - release) / frames).expand_as(rise))
    size = strength.clamp(-STRENGTH_LIMIT, STRENGTH_LIMIT).expand_as(rise)
    sines = [(torch.pi * share).sin() for share in (rise, fall)]
    return torch.stack([envelope, rise, hold, fall, *sines, *durations, size], dim=2), envelope


def _resampled(added: np.ndarray, frames: int) -> np.ndarray:
    """(B, frames, K) of what is added in frames 1..S, (B, S, K); nothing in frame 0."""
    from_start = np.pad(added, ((0, 0), (1, 0), (0, 0))).swapaxes(0, 1)  # (S + 1, B, K)
    return resample_cubic(from_start, frames + 1)[1:].swapaxes(0, 1)


def controls_of(displacements: Tensor, labels: Tensor, directions: np.ndarray) -> Tensor:
    """(N, 5) controls of sequences (N, T + 1, L, 3) of labels (N,) with directions (C, L, 3), on their device."""
    found = find_controls(displacements.cpu().numpy(), directions[labels.cpu().numpy()])
    return torch.as_tensor(found.array()).to(displacements)
