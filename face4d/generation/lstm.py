"""LSTMCell generators: one displacement frame and a label in, the frames that follow out.

Displacements are landmarks minus the subject's neutral landmarks, in metres. Each network is written as it is defined,
one ``torch.nn.LSTMCell`` step per frame, and has a fast engine (:mod:`face4d.generation.unroll`) that computes the
same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from face4d.generation.config import GeneratorConfig
from face4d.generation.controlled import ControlledGenerator
from face4d.generation.recurrence import CoefficientRecurrence
from face4d.generation.unroll import unroll_thesis


class ThesisGenerator(nn.Module):
    """The generator of the thesis "Generating 3D facial expressions using an LSTM network", name for name.

    With x the flattened start displacement and e = fc_enc(onehot(label)):
    h_0 = fc_inh(x), c_0 = fc_inc(x), u_0 = [x, e];
    (h_t, c_t) = LSTMCell(u_{t-1}, (h_{t-1}, c_{t-1})), y_t = fc_2(relu(fc_1(h_t))), u_t = [y_t, e].

    Args:
        num_labels: number of classes C.
        hidden_size: H.
        num_landmarks: L.
        engine: ``fast`` or ``plain``, see the top of this module.
    """

    def __init__(self, num_labels: int, hidden_size: int, num_landmarks: int = 68, engine: str = "fast") -> None:
        super().__init__()
        size = 3 * num_landmarks
        self.num_labels, self.engine = num_labels, engine
        self.lstm = nn.LSTMCell(2 * size, hidden_size)
        self.fc_1 = nn.Linear(hidden_size, hidden_size)
        self.fc_2 = nn.Linear(hidden_size, size)
        self.fc_inh = nn.Linear(size, hidden_size)
        self.fc_inc = nn.Linear(size, hidden_size)
        self.fc_enc = nn.Linear(num_labels, size)

    def forward(self, start: Tensor, labels: Tensor, frames: int) -> Tensor:
        """Generate the frames after ``start``.

        Args:
            start: (B, L, 3) displacement, metres.
            labels: (B,) class indices.
            frames: number T of frames to generate.

        Returns:
            (B, T, L, 3) displacements, metres; the start frame is not among them.
        """
        if self.engine == "fast":
            return unroll_thesis(self, start, labels, frames)
        label_code = self.fc_enc(functional.one_hot(labels, self.num_labels).to(start.dtype))  # (B, 3L)
        frame = start.flatten(1)  # (B, 3L)
        hidden, cell = self.fc_inh(frame), self.fc_inc(frame)  # (B, H) each
        generated = []
        for _ in range(frames):
            hidden, cell = self.lstm(torch.cat([frame, label_code], dim=1), (hidden, cell))
            frame = self.fc_2(torch.relu(self.fc_1(hidden)))
            generated.append(frame)
        return torch.stack(generated, dim=1).unflatten(2, start.shape[1:])  # (B, T, L, 3)


class CoefficientGenerator(CoefficientRecurrence):
    """LSTMCell generator in whitened principal coefficients, conditioned on its class and on how much of the time has
    passed: the mean motion of the class, and what the LSTM adds to it.

    With the recurrence r_t of :class:`face4d.generation.recurrence.CoefficientRecurrence`, position code p_t =
    (sin(2^k pi t / T), cos(2^k pi t / T)), k = 0, 1, 2. The mean motion m_t is a Fourier series in t / T, fitted in
    closed form (:meth:`fit_motion`), of the class' motion and of what stays of the start frame: m_t = f_t
    (motion[class] + stays z_0^T), f_t = (1, sin(k pi t / T), cos(k pi t / T)), k = 1..4. Training begins with r = 0.
    z_t = m_t + r_t; x_t = (z_t * scale) @ basis^T.

    Args:
        num_labels: number of classes C.
        hidden_size: H.
        components: K.
        num_landmarks: L.
        engine: ``fast`` or ``plain``, see the top of this module.
        residual: with the mean motion; without, m = 0.
    """

    OCTAVES = 3
    HARMONICS = 4

    motion: Tensor
    stays: Tensor

    def __init__(
        self,
        num_labels: int,
        hidden_size: int,
        components: int,
        num_landmarks: int = 68,
        engine: str = "fast",
        residual: bool = True,
    ) -> None:
        super().__init__(num_labels, hidden_size, components, 2 * self.OCTAVES, num_landmarks, engine)
        self.residual = residual
        if residual:
            terms = 1 + 2 * self.HARMONICS
            self.register_buffer("motion", torch.zeros(num_labels, terms, components))
            self.register_buffer("stays", torch.zeros(terms))

    @torch.no_grad()
    def fit_motion(self, motions: Tensor, stays: Tensor) -> None:
        """Set the mean motions by least squares, and begin with nothing added to them.

        Args:
            motions: (C, T, L, 3) of every class, frames 1..T, metres.
            stays: (T,) share of the start frame in each frame.
        """
        inverse = torch.linalg.pinv(self.fourier_terms(len(stays)))  # (TERMS, T)
        self.motion.copy_(inverse @ self.encoded(motions))
        self.stays.copy_(inverse @ stays)
        nn.init.zeros_(self.fc_2.weight)
        nn.init.zeros_(self.fc_2.bias)

    def angles(self, frames: int, multiples: Tensor) -> Tensor:
        """(T, len(multiples)) multiples of pi t / T, t = 1..T."""
        time = torch.arange(1, frames + 1, device=self.basis.device, dtype=self.basis.dtype) / frames  # (T,)
        return torch.pi * time[:, None] * multiples.to(time)

    def position_code(self, frames: int) -> Tensor:
        """(T, 2 * OCTAVES) sines and cosines of t / T, t = 1..T."""
        angle = self.angles(frames, 2.0 ** torch.arange(self.OCTAVES))
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    def fourier_terms(self, frames: int) -> Tensor:
        """(T, 1 + 2 * HARMONICS) terms of the Fourier series at t / T, t = 1..T."""
        angle = self.angles(frames, torch.arange(1, self.HARMONICS + 1))
        return torch.cat([torch.ones_like(angle[:, :1]), angle.sin(), angle.cos()], dim=1)

    def forward(self, start: Tensor, labels: Tensor, frames: int) -> Tensor:
        """Generate the frames after ``start``; arguments and result as :meth:`ThesisGenerator.forward`."""
        coefficients = self.recurrence(start, labels, self.position_code(frames)[:, None])  # (B, T, K)
        if self.residual:
            motion = self.motion[labels] + self.stays[:, None] * self.encoded(start)[:, None]  # (B, TERMS, K)
            coefficients = coefficients + self.fourier_terms(frames) @ motion
        return self.decoded(coefficients)  # (B, T, L, 3)


def build_network(
    config: GeneratorConfig, num_labels: int, num_landmarks: int = 68
) -> ThesisGenerator | CoefficientGenerator | ControlledGenerator:
    """The network of a configuration, with fresh weights from torch's global generator."""
    if config.network == "thesis":
        return ThesisGenerator(num_labels, config.hidden_size, num_landmarks, config.engine)
    sizes = (num_labels, config.hidden_size, config.components, num_landmarks, config.engine)
    if config.controlled:
        return ControlledGenerator(*sizes)
    return CoefficientGenerator(*sizes, residual=config.network == "residual")
