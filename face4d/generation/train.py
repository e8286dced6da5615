"""Training of the generators: one loop, two schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, digest, set_names, tensors
from face4d.generation.augment import apex_frames, warped_targets
from face4d.generation.config import GeneratorConfig, build_network
from face4d.runtime import distributed
from face4d.runtime.device import seed_everything
from face4d.runtime.training import Places, run_epochs, set_learning_rate

Loss = Callable[[Tensor, Tensor], Tensor]
CHECKPOINT_KIND = "generator"


def make_loss(name: str, scale: Tensor | float = 1.0) -> Loss:
    """Mean over all elements of |d| (``l1``) or d^2 (``l2``), d = (generated - target) / scale; targets may add leading dimensions."""

    def loss(generated: Tensor, target: Tensor) -> Tensor:
        difference = (generated - target) / scale
        return difference.abs().mean() if name == "l1" else difference.square().mean()

    return loss


def losses_from_every_frame(network: nn.Module, batch: Tensor, labels: Tensor, loss: Loss) -> Iterator[Tensor]:
    """The thesis' schedule: for i = T-1 down to 0 the loss of frames i+1..T generated from frame i.

    One optimiser step belongs to each value, taken before the next is asked for.
    """
    last = batch.shape[1] - 1
    for start in reversed(range(last)):
        yield loss(network(batch[:, start], labels, last - start), batch[:, start + 1 :])


def losses_from_first_frame(network: nn.Module, targets: Tensor, labels: Tensor, loss: Loss) -> Iterator[Tensor]:
    """One loss per batch: frames 1..T generated from frame 0, against all (M, B, T+1, L, 3) targets of each sequence."""
    yield loss(network(targets[0, :, 0], labels, targets.shape[2] - 1), targets[:, :, 1:])


@torch.no_grad()
def validate(network: nn.Module, displacements: Tensor, labels: Tensor) -> dict[str, float]:
    """Errors of frames 1..T generated from frame 0; draws no random number and changes nothing.

    All sequences have one length, so the mean over all elements is the thesis' mean over sequences of the loss at batch size one.

    Args:
        displacements: (N, T+1, L, 3), metres.
        labels: (N,) class indices.

    Returns:
        ``mse`` (metres squared), ``l1`` (metres), ``mm`` (mean Euclidean distance), ``mm_std`` (over all single distances).
    """
    generated = network(displacements[:, 0], labels, displacements.shape[1] - 1)
    difference = (generated - displacements[:, 1:]).double()
    distance = difference.norm(dim=3) * MM_PER_METRE
    return {
        "mse": difference.square().mean().item(),
        "l1": difference.abs().mean().item(),
        "mm": distance.mean().item(),
        "mm_std": distance.std(correction=0).item(),
    }


def train(
    split: LandmarkSplit,
    config: GeneratorConfig,
    places: Places,
    *,
    held_out: Sequence[LandmarkSequence] = (),
    device: torch.device = torch.device("cpu"),
    source: dict[str, Any] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a generator; :func:`face4d.runtime.training.run_epochs` says what is written.

    Args:
        split: training and test sequences of one length.
        held_out: sequences that choose the weights with ``config.select == "validation"``.
        source: where the data came from, kept in config.json and in the checkpoint for later steps.
        resume: continue from the last checkpoint if there is one.
        checkpoint_seconds: time between last checkpoints; 0 = after every epoch.

    Returns:
        What metrics.json holds: mse, l1, mm, mm_std of the test set for the weights kept, epoch, seconds.
    """
    data, data_labels = tensors(split.train, split.labels, device)  # (N, T+1, L, 3) metres, (N,)
    test, test_labels = tensors(split.test, split.labels, device)
    chooser, chooser_labels = tensors(held_out, split.labels, device) if config.select == "validation" else (test, test_labels)

    generator = seed_everything(config.seed)
    network = build_network(config, len(split.labels), data.shape[2])
    if config.network == "coefficients":
        network.fit_basis(data.cpu().flatten(0, 1))
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)
    loss = make_loss(config.loss, data.square().mean().sqrt() if config.normalise_loss else 1.0)
    apexes = apex_frames(data)
    num_batches = math.ceil(len(data) / config.batch_size)
    steps_per_epoch = num_batches * (data.shape[1] - 1 if config.start_frames == "every" else 1)

    def train_epoch(epoch: int) -> dict[str, float]:
        step = (epoch - 1) * steps_per_epoch
        loss_sum = torch.zeros((), device=device)
        for chosen in torch.randperm(len(data), generator=generator).to(device).split(config.batch_size):
            part = distributed.share(len(chosen))  # of this process; all of it where there is one
            batch, labels = data[chosen], data_labels[chosen][part.rows]  # (B, T+1, L, 3), (B,)
            if config.start_frames == "every":
                losses = losses_from_every_frame(network, batch[part.rows], labels, loss)
            elif config.warps:
                average = config.loss == "l2"
                targets = warped_targets(batch, apexes[chosen], apexes, config.warps, generator, part.rows, average=average)  # (M or 1, B, T+1, L, 3)
                losses = losses_from_first_frame(network, targets, labels, loss)
            else:
                losses = losses_from_first_frame(network, batch[None, part.rows], labels, loss)
            for value in losses:
                step += 1
                set_learning_rate(optimizer, config, step / (config.epochs * steps_per_epoch))
                optimizer.zero_grad()
                loss_sum += distributed.backward(value, network.parameters(), part)
                if config.grad_clip:
                    nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
                optimizer.step()
        # Summed over start frames and averaged over batches: the number the thesis logs.
        return {"loss/train": loss_sum.item() / num_batches}

    def scores() -> tuple[dict[str, float], tuple[float, ...]]:
        on_test = validate(network, test, test_labels)
        deciding = on_test if chooser is test else validate(network, chooser, chooser_labels)
        return {f"test/{name}": value for name, value in on_test.items()}, (deciding["mse" if config.loss == "l2" else "l1"],)

    identity = {
        "config": config.as_dict(),
        "labels": list(split.labels),
        "num_landmarks": data.shape[2],
        "frames": data.shape[1],
        "data_digest": digest((*split.train, *held_out, *split.test)),
    }
    return run_epochs(
        network,
        optimizer,
        generator,
        config,
        places,
        kind=CHECKPOINT_KIND,
        identity=identity,
        record={"source": source or {}, "sets": set_names(train=split.train, held_out=held_out, test=split.test)},
        train_epoch=train_epoch,
        validate=scores,
        final_scores=lambda kept: validate(kept, test, test_labels),
        resume=resume,
        checkpoint_seconds=checkpoint_seconds,
        quiet=quiet,
    )
