"""Training of the flow-matching generator.

Lipman, Chen, Ben-Hamu, Nickel and Le, "Flow Matching for Generative Modeling", ICLR 2023, equation 23: at points
x_s = (1 - s) x_0 + s x_1 between noise and training motions, the velocity network learns x_1 - x_0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from face4d.controls import as_ratios
from face4d.datasets.landmark_set import LandmarkSplit, tensors
from face4d.generation.config import CHECKPOINT_KIND
from face4d.generation.control_draws import chosen_density
from face4d.generation.draws import draw_errors, require_one_process, scored_sets
from face4d.generation.flow.config import FlowConfig
from face4d.generation.flow.networks import CONTROLS, TIMES, MotionFlow
from face4d.runtime import distributed
from face4d.runtime.device import adam, seed_everything
from face4d.runtime.run_folder import Run
from face4d.runtime.session import Session, Task, learning_rate, set_learning_rate, tagged

ALL_GIVEN, SOME_GIVEN = 0.2, 0.3  # shares of the training in which all controls are given, or each with probability 1/2
LEAST_WEIGHT = 0.1  # in the loss, of a coordinate without effect
MOST_MEASURED = 200  # motions that the effects of coordinates are measured on


class TrainingMotions:
    """A distribution of motions made of training sequences: a kernel density of their coordinates.

    Timing comes from another sequence than shape and strength, since there are few sequences of a label and a face may
    do the same sooner or later: from any of all labels with probability :attr:`pooled`, else from one of the same label
    (:func:`face4d.generation.control_draws.chosen_density`, which chooses this share and the width of the kernel in
    time by the likelihood of the sequences). A kernel adds the difference of two sequences, so that it has the shape of
    their covariance, and the result is scaled about the mean to the variance of the sequences (Silverman, Density
    estimation for statistics and data analysis, 1986, section 6.4.1).

    Args:
        model: fitted to the sequences.
        coordinates: (N, D) of the sequences.
        labels: (N,) class indices.
        last: T.
        smoothing: width of the kernel of strength and shape, in standard deviations.
    """

    def __init__(self, model: MotionFlow, coordinates: Tensor, labels: Tensor, last: int, smoothing: float) -> None:
        self.coordinates, self.labels, self.smoothing = coordinates, labels, smoothing
        ratios = as_ratios(model.controls_of(coordinates, last), last)
        self.pooled, self.width = chosen_density(ratios, labels.numpy())
        self.order = labels.argsort()  # sequences of one label side by side
        self.count = torch.bincount(labels, minlength=model.num_labels)
        self.first = self.count.cumsum(0) - self.count
        self.means = torch.stack([coordinates[labels == label].mean(0) for label in range(model.num_labels)])

    def draw(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Coordinates (size, D) and class indices (size,)."""
        chosen = torch.randint(len(self.labels), (size,), generator=random)
        labels, own = self.labels[chosen], torch.zeros(size, dtype=torch.bool)
        pooled = torch.rand(size, generator=random) < self.pooled
        timing = self._kernel(self._like(labels, pooled, random), labels, pooled, self.width)
        others = self._like(labels, own, random)[1:]
        shape = self._kernel(torch.cat([chosen[None], others]), labels, own, self.smoothing)
        return torch.cat([timing[:, :TIMES], shape[:, TIMES:]], dim=1), labels

    def _like(self, labels: Tensor, pooled: Tensor, random: torch.Generator) -> Tensor:
        """(3, B) sequences of these labels or, where ``pooled``, of any."""
        share = torch.rand(3, len(labels), generator=random)
        of_label = self.order[self.first[labels] + (share * self.count[labels]).long()]
        return torch.where(pooled, (share * len(self.labels)).long(), of_label)

    def _kernel(self, sequences: Tensor, labels: Tensor, pooled: Tensor, width: float) -> Tensor:
        """(B, D) the first of three sequences (3, B), moved by the difference of the others; with the mean and the
        unbiased variance of its label's sequences or, where ``pooled``, of all.
        """
        own, one, other = self.coordinates[sequences]  # (B, D)
        centre = torch.where(pooled[:, None], self.coordinates.mean(0), self.means[labels])
        count = torch.where(pooled, len(self.labels), self.count[labels])
        unbiased = count / (count - 1).clamp(min=1)
        moved = own - centre + width * (one - other) / 2**0.5
        return centre + (unbiased / (1 + width**2)).sqrt()[:, None] * moved


@torch.no_grad()
def effects(model: MotionFlow, coordinates: Tensor, labels: Tensor, last: int) -> Tensor:
    """How far each coordinate moves a motion: (D,) root mean square of the change in displacement per unit, metres."""
    some = torch.linspace(0, len(labels) - 1, min(len(labels), MOST_MEASURED)).long()
    coordinates, labels = coordinates[some], labels[some]
    here = model.motion(coordinates, labels, model.controls_of(coordinates, last), last)
    found = []
    for unit in 0.2 * torch.eye(coordinates.shape[1]):
        there = model.motion(coordinates + unit, labels, model.controls_of(coordinates + unit, last), last)
        found.append((there - here).square().mean().sqrt() / 0.2)
    return torch.stack(found)


def train(split: LandmarkSplit, config: FlowConfig, run: Run) -> dict[str, Any]:
    """Train a flow-matching generator, by one process; arguments, files and result as of Motion3DGAN."""
    with distributed.agreement():
        require_one_process("--model flow")
    device = run.device
    # displacements (N, T + 1, L, 3) in metres, class indices (N,)
    data, labels = tensors(split.train, split.labels, torch.device("cpu"))
    name, scored = scored_sets(split, config.select, device)
    session = Session(run, Task(CHECKPOINT_KIND, config, split.identity(num_landmarks=data.shape[2]), split.record()))
    if session.metrics is not None:
        return session.metrics  # trained already

    random = seed_everything(config.seed)
    last = data.shape[1] - 1
    model = MotionFlow(config, len(split.labels), data.shape[2])
    coordinates = model.fit(data, labels)
    motions = TrainingMotions(model, coordinates, labels, last, config.smoothing)
    weights = effects(model, coordinates, labels, last)
    weights = (weights / weights.mean() + LEAST_WEIGHT).to(device)  # (D,)
    model.to(device)
    optimizer = adam(model.velocity, config.lr, device)
    session.start(model, optimizer, random)

    def loss_of_batch() -> Tensor:
        """() of one batch: squared error of the velocity, coordinates weighted by what they change."""
        made, own = motions.draw(config.batch_size, random)  # (B, D), (B,)
        noise, time = torch.randn(made.shape, generator=random), torch.rand(len(made), 1, generator=random)
        how, which = torch.rand(len(made), 1, generator=random), torch.rand(len(made), CONTROLS, generator=random)
        given = (how < ALL_GIVEN) | ((how < ALL_GIVEN + SOME_GIVEN) & (which < 0.5))  # (B, 5)
        controls = torch.where(given, made[:, :CONTROLS], torch.nan)
        unlabelled = torch.rand(len(made), generator=random) < config.unlabelled
        own = torch.where(unlabelled, model.num_labels, own)
        noise, made, time, own, controls = (x.to(device) for x in (noise, made, time, own, controls))
        with session.precision():
            condition = model.velocity.condition(own, controls)
            found = model.velocity(torch.lerp(noise, made, time), time, condition)
            return (weights * (found - (made - noise)).square()).mean()

    steps = config.epochs * config.steps_per_epoch
    for epoch in session.epochs():
        total = torch.zeros((), device=device)
        for step in range((epoch - 1) * config.steps_per_epoch + 1, epoch * config.steps_per_epoch + 1):
            set_learning_rate(optimizer, learning_rate(config, step / steps))
            loss = loss_of_batch()
            optimizer.zero_grad()
            total += session.backward(loss, model.velocity)
            optimizer.step()
            model.average(config.averaging)
        session.log({"train/loss": total.item() / config.steps_per_epoch})
        if session.validates:
            errors = {name: draw_errors(model, *sequences, config.seed) for name, sequences in scored.items()}
            session.validated(
                tagged(errors), rank=(errors["validation" if config.select == "validation" else name].mm_best,)
            )
    kept = session.kept()
    return session.finish(
        tagged({name: draw_errors(kept, *sequences, config.seed) for name, sequences in scored.items()})
    )
