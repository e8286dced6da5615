"""Training and use of the networks, CoMA and CoMA_Florence sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import data
import torch
from measure import Case, Size, best_seconds
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from face4d.classification.model import ExpressionClassifier
from face4d.generation.config import PRESETS
from face4d.generation.lstm import CoefficientGenerator, ThesisGenerator, build_network
from face4d.generation.sample import Generator

BATCH = 25


def _sequences(count: int, frames: int, labels: int) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.landmarks_in_motion(count, frames)), torch.arange(count) % labels


def _gemm_rate(rows: int, inner: int, columns: int) -> float:
    """FLOP/s of the faster of torch's two back ends."""
    x, weight, bias = torch.randn(rows, inner), torch.randn(columns, inner), torch.randn(columns)
    calls: list[Callable[[], object]] = [lambda: nn.functional.linear(x, weight, bias)]
    if torch.backends.mkldnn.is_available():
        calls.append(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))
    return 2 * rows * inner * columns / min(best_seconds(call, 15) for call in calls)


def _generator_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, displacements: Tensor, labels: Tensor, steps: int
) -> None:
    """The thesis' schedule on all batches, or its last `steps` horizons (the long ones) where it is cut short."""
    for batch, own in zip(displacements.split(BATCH), labels.split(BATCH)):
        last = batch.shape[1] - 1
        for start in reversed(range(last)):
            if last - start > steps:
                break
            optimizer.zero_grad()
            mse_loss(network(batch[:, start], own, last - start), batch[:, start + 1 :]).backward()
            optimizer.step()


def _generator(size: Size, sequences: int, frames: int, labels: int, hidden: int, part: int, target: float) -> Case:
    """``part``: sequences that one timed call trains on; its time is scaled to an epoch."""
    hidden, frames = (16, 4) if size.tiny else (hidden, frames)
    count = size.of(part, 3)
    displacements, own = _sequences(count, frames + 1, labels)
    torch.manual_seed(27)
    ours, plain = ThesisGenerator(labels, hidden), ThesisGenerator(labels, hidden, engine="plain")
    plain.load_state_dict(ours.state_dict())
    optimizers = [
        torch.optim.Adam(ours.parameters(), lr=1e-4, fused=True),
        torch.optim.Adam(plain.parameters(), lr=1e-4),
    ]

    def bound() -> float:
        cells = math.ceil(sequences / BATCH) * frames * (frames + 1) / 2
        # products of one step: frame and hidden state to gates, hidden to hidden, hidden to frame; forward, back to
        # inputs, to weights
        flops = 3 * 2 * BATCH * (4 * hidden * (204 + hidden) + hidden * hidden + 204 * hidden)
        return cells * flops / _gemm_rate(BATCH, 204 + hidden, 4 * hidden)

    return Case(
        "epoch",
        lambda: _generator_epoch(ours, optimizers[0], displacements, own, frames),
        lambda: _generator_epoch(plain, optimizers[1], displacements, own, frames),
        count / sequences,
        count / sequences,
        "LSTMCell loop, autograd, Adam"
        + ("" if part == sequences else f"; both on {part} of {sequences} sequences, scaled"),
        bound,
        "products alone at the measured GEMM rate",
        target,
    )


def coma_epoch(size: Size) -> Case:
    return _generator(size, 108, 40, 12, 256, 108, 1.8)


def florence_epoch(size: Size) -> Case:
    return _generator(size, 100, 60, 10, 1024, 25, 30.0)


def generation_default(size: Size) -> Case:
    """The network of the default preset, with 16 coefficients."""
    count, frames = size.of(144, 4), 40
    displacements, labels = _sequences(count, 2, 12)
    start, own = displacements[:, 1].numpy(), labels.numpy()
    torch.manual_seed(27)
    network = build_network(PRESETS["default"].with_settings({"components": 16}), 12)
    assert isinstance(network, CoefficientGenerator)
    network.fit_basis(torch.from_numpy(data.landmarks_in_motion(24, 5)).flatten(0, 1))
    generator = Generator(
        Path("none"), network.eval(), tuple(f"label{number}" for number in range(12)), frames + 1, 68, {}, {}
    )

    def one_by_one() -> None:
        for number in range(count):
            generator.generate(start[number : number + 1], own[number : number + 1])

    return Case(
        "sequence",
        lambda: generator.generate(start, own),
        one_by_one,
        count,
        count,
        "the same, one sequence at a time",
        target=0.4e-3,
    )


def generation(size: Size) -> Case:
    count, hidden, frames = size.of(144, 4), 16 if size.tiny else 256, 40
    displacements, labels = _sequences(count, 2, 12)
    start, own = displacements[:, 1].numpy(), labels.numpy()
    torch.manual_seed(27)
    network = ThesisGenerator(12, hidden).eval()
    plain = ThesisGenerator(12, hidden, engine="plain").eval()
    plain.load_state_dict(network.state_dict())
    names = tuple(f"label{number}" for number in range(12))
    batches, plainly = (Generator(Path("none"), net, names, frames + 1, 68, {}, {}) for net in (network, plain))

    def one_by_one() -> None:
        for number in range(count):
            plainly.generate(start[number : number + 1], own[number : number + 1])

    def bound() -> float:
        flops = 2 * frames * (4 * hidden * (204 + hidden) + hidden * hidden + 204 * hidden)
        return flops / _gemm_rate(count, 204 + hidden, 4 * hidden)

    return Case(
        "sequence", lambda: batches.generate(start, own), one_by_one, count, count,
        "LSTMCell loop, one sequence at a time", bound, "products alone at the measured GEMM rate", 0.4e-3,
        sensible=lambda: plainly.generate(start, own), sensible_units=count,
        sensible_is="LSTMCell loop, all sequences in one batch",
    )  # fmt: skip


class PlainClassifier(ExpressionClassifier):
    """As the original has it: initial states by reshape, nn.LSTM, mean."""

    def features(self, displacement: Tensor) -> Tensor:
        x = displacement.flatten(2)
        shape = (2 * self.layers, len(x), self.hidden_size)
        outputs, _ = self.lstm(x, (self.fc_inh(x[:, 0]).reshape(shape), self.fc_inc(x[:, 0]).reshape(shape)))
        return outputs.mean(dim=1)


def _classifier_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, displacements: Tensor, labels: Tensor
) -> None:
    for batch, own in zip(displacements.split(BATCH), labels.split(BATCH)):
        loss = cross_entropy(model(batch), own)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def classifier_epoch(size: Size) -> Case:
    hidden, layers = (16, 1) if size.tiny else (1024, 3)
    epoch, part = 108, size.of(50, 4)
    displacements, labels = _sequences(part, 41, 12)
    torch.manual_seed(27)
    ours, plain = ExpressionClassifier(12, hidden, layers), PlainClassifier(12, hidden, layers)
    optimizers = [
        torch.optim.Adam(ours.parameters(), lr=1e-4, fused=True),
        torch.optim.Adam(plain.parameters(), lr=1e-4),
    ]

    def bound() -> float:
        weights = sum(p.numel() for name, p in ours.named_parameters() if name.startswith("lstm.weight"))
        return 3 * 2 * weights * epoch * 41 / _gemm_rate(BATCH * 41, 2 * hidden, 4 * hidden)

    return Case(
        "epoch",
        lambda: _classifier_epoch(ours, optimizers[0], displacements, labels),
        lambda: _classifier_epoch(plain, optimizers[1], displacements, labels),
        part / epoch,
        part / epoch,
        "nn.LSTM, Adam; both on 50 of 108 sequences, scaled",
        bound,
        "products alone at the measured GEMM rate",
        4.0,
    )
