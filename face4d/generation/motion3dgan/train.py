"""Training of Motion3DGAN: a conditional Wasserstein GAN with gradient penalty.

Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017; on square-root velocities Otberdout et al.,
Dynamic Facial Expression Generation on Hilbert Hypersphere, PAMI 2020, and Sparse to Dense Dynamic 3D Facial Expression
Generation, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from face4d.datasets.augmentation import apex_frames, warped_targets
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, tensors
from face4d.errors import InputError
from face4d.generation.config import CHECKPOINT_KIND
from face4d.generation.draws import draw_errors, require_one_process, scored_sets
from face4d.generation.motion3dgan.config import MotionGANConfig
from face4d.generation.motion3dgan.networks import Motion3DGAN, along, condition_code
from face4d.runtime import distributed
from face4d.runtime.device import seed_everything
from face4d.runtime.run_folder import Run
from face4d.runtime.session import Session, Task, learning_rate, set_learning_rate, tagged
from face4d.srvf import curve_to_srvf, geodesic_distance

BETAS = (0.5, 0.9)


class Optimizers(NamedTuple):
    """Adam of both networks, saved and loaded as one."""

    generator: torch.optim.Optimizer
    critic: torch.optim.Optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [*self.generator.param_groups, *self.critic.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, optimizer in self._asdict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, optimizer in self._asdict().items():
            optimizer.load_state_dict(state[name])


class Draw(NamedTuple):
    """One batch: real motions by number, and the random numbers of as many generated ones of the same labels.

    Attributes:
        chosen: (B,) numbers of the real motions.
        noise: (B, Z).
        code: (B, 3C).
        mix: (B,) in 0..1, where between real and generated the gradient is looked at.
    """

    chosen: Tensor
    noise: Tensor
    code: Tensor
    mix: Tensor


class Motions(NamedTuple):
    """Training motions on the sphere.

    Attributes:
        q: (M, N, 3L) square-root velocities.
        lengths: (M,) metres.
        ends: (M,) displacement of the last frame over the largest one.
        labels: (M,) class indices.
    """

    q: Tensor
    lengths: Tensor
    ends: Tensor
    labels: Tensor


def training_motions(
    displacements: Tensor, labels: Tensor, config: MotionGANConfig, generator: torch.Generator
) -> Motions:
    """Displacements (N, T+1, L, 3) as motions: each sequence or, with ``config.warps``, so many versions of it warped
    in time.
    """
    if config.warps:
        apexes = apex_frames(displacements)
        displacements = warped_targets(displacements, apexes, apexes, config.warps, generator).flatten(0, 1)
        labels = labels.repeat(config.warps)
    curves = along(displacements.flatten(2).double(), config.points + 1, config.parameter)
    q, lengths = curve_to_srvf(curves)
    away = (curves - curves[:, :1]).norm(dim=2)  # (M, N + 1)
    return Motions(q.float(), lengths.float(), (away[:, -1] / away.amax(1)).float(), labels)


def gradient_penalty(critic: nn.Module, real: Tensor, made: Tensor, code: Tensor, mix: Tensor) -> Tensor:
    """Mean over the batch of (|gradient of the critic| - 1)^2 at ``mix * real + (1 - mix) * made``.

    Args:
        real, made: (B, ...) what the critic sees.
        code: (B, 3C).
        mix: (B,) in 0..1.
    """
    between = torch.lerp(made, real, mix.view(-1, *[1] * (real.dim() - 1))).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between, code).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def require_motion(sequences: Sequence[LandmarkSequence]) -> None:
    """Raise an :class:`InputError` that names a sequence without any motion, which has no direction."""
    for sequence in sequences:
        if not (sequence.landmarks != sequence.landmarks[0]).any():
            raise InputError(sequence.path, "a face that moves", f"{len(sequence.landmarks)} equal frames")


def train(split: LandmarkSplit, config: MotionGANConfig, run: Run) -> dict[str, Any]:
    """Train a Motion3DGAN, by one process; arguments, files and result as of the LSTM generators.

    The test set may be empty: then the scores are those against the training set, ``train/mm`` in place of ``test/mm``.
    """
    with distributed.agreement():
        require_one_process("--model motion3dgan")
        require_motion(split.train)
    device = run.device
    # displacements (N, T + 1, L, 3) in metres, class indices (N,)
    data, labels = tensors(split.train, split.labels, torch.device("cpu"))
    name, scored = scored_sets(split, config.select, device)
    session = Session(run, Task(CHECKPOINT_KIND, config, split.identity(num_landmarks=data.shape[2]), split.record()))
    if session.metrics is not None:
        return session.metrics  # trained already

    random = seed_everything(config.seed)
    model = Motion3DGAN(config, len(split.labels), data.shape[2])
    motions = training_motions(data, labels, config, random)
    model.fit(*motions)
    model.to(device)
    trainer = Trainer(model, motions, config, random, device)
    session.start(model, trainer.optimizers, random)

    steps = config.epochs * config.steps_per_epoch
    for epoch in session.epochs():
        critic = torch.zeros(2, device=device)  # loss, estimate of the distance
        generator = torch.zeros((), device=device)
        for step in range((epoch - 1) * config.steps_per_epoch + 1, epoch * config.steps_per_epoch + 1):
            set_learning_rate(trainer.optimizers, learning_rate(config, step / steps))
            for _ in range(config.critic_steps):
                loss, distance = trainer.critic_loss()
                trainer.optimizers.critic.zero_grad()
                critic += torch.stack([session.backward(loss, model.critic), distance])
                trainer.optimizers.critic.step()
            loss = trainer.generator_loss()
            trainer.optimizers.generator.zero_grad()
            generator += session.backward(loss, model.generator)
            trainer.optimizers.generator.step()
            trainer.average()
        loss, distance = (critic / (config.steps_per_epoch * config.critic_steps)).tolist()
        session.log(
            {
                "train/loss": loss,
                "train/critic_distance": distance,
                "train/generator_loss": generator.item() / config.steps_per_epoch,
            }
        )
        if session.validates:
            errors = {name: draw_errors(model, *sequences, config.seed) for name, sequences in scored.items()}
            session.validated(
                tagged(errors), rank=(errors["validation" if config.select == "validation" else name].mm_best,)
            )
    kept = session.kept()
    return session.finish(
        tagged({name: draw_errors(kept, *sequences, config.seed) for name, sequences in scored.items()})
    )


class Trainer:
    """The losses of both networks, each of a batch that it draws, and their optimisers.

    Args:
        random: of the random numbers, on the CPU.
    """

    def __init__(
        self,
        model: Motion3DGAN,
        motions: Motions,
        config: MotionGANConfig,
        random: torch.Generator,
        device: torch.device,
    ) -> None:
        self.model, self.config, self.random, self.device = model, config, random, device
        self.q = motions.q.to(device)
        self.labels = motions.labels.to(device)
        with torch.no_grad():  # what the critic sees of all real motions
            self.seen = torch.cat([model.encode(part.to(device)) for part in motions.q.split(256)])
        self.optimizers = Optimizers(
            *(
                torch.optim.Adam(network.parameters(), lr=self.config.lr, betas=BETAS, fused=True)
                for network in (model.generator, model.critic)
            )
        )

    def draw(self) -> Draw:
        """A batch drawn with replacement."""
        size = self.config.batch_size
        chosen = torch.randint(len(self.labels), (size,), generator=self.random).to(self.device)
        noise = torch.randn(size, self.config.noise_size, generator=self.random).to(self.device)
        code = condition_code(self.labels[chosen], self.model.num_labels, self.random)
        mix = torch.rand(size, generator=self.random).to(self.device)
        return Draw(chosen, noise, code, mix)

    def critic_loss(self) -> tuple[Tensor, Tensor]:
        """The critic's loss () E[made] - E[real] + penalty; and E[real] - E[made] (), detached, its estimate of the
        distance.
        """
        draw = self.draw()
        critic = self.model.critic
        with torch.no_grad():
            made = self.model.seen(self.model.generator(draw.noise, draw.code))
        real = self.seen[draw.chosen]
        difference = critic(made, draw.code).mean() - critic(real, draw.code).mean()
        loss = difference + self.config.penalty * gradient_penalty(critic, real, made, draw.code, draw.mix)
        return loss, -difference.detach()

    def generator_loss(self) -> Tensor:
        """The generator's loss (): -E[critic] + distances to real motions of the same labels."""
        draw = self.draw()
        model, config = self.model, self.config
        made = model.generator(draw.noise, draw.code)
        seen = model.seen(made)
        loss = -model.critic(seen, draw.code).mean()
        if config.tangent_weight:
            loss = loss + config.tangent_weight * (seen - self.seen[draw.chosen]).abs().mean()
        if config.geodesic_weight:
            loss = (
                loss
                + config.geodesic_weight * geodesic_distance(model.point(made), self.q[draw.chosen], model.clip).mean()
            )
        return loss

    @torch.no_grad()
    def average(self) -> None:
        """Move the averaged weights of the generator towards its own, where they are averaged."""
        if self.config.averaging:
            torch._foreach_lerp_(
                list(self.model.averaged.parameters()),
                list(self.model.generator.parameters()),
                1 - self.config.averaging,
            )
