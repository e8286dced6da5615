"""Training of the generators: one loop, two schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from face4d.constants import MM_PER_METRE
from face4d.datasets.augmentation import apex_frames, warped_targets
from face4d.datasets.landmark_set import LandmarkSplit, tensors
from face4d.generation.config import GeneratorConfig
from face4d.generation.lstm import build_network
from face4d.runtime import distributed
from face4d.runtime.device import CudaGraphs, GraphedFunction, autocast, seed_everything
from face4d.runtime.training import Run, run_epochs, set_learning_rate

CHECKPOINT_KIND = "generator"  # of all networks
Loss = Callable[[Tensor, Tensor], Tensor]
VALIDATION_BATCH = 512  # sequences generated at a time, which bounds the memory of a large test set


def make_loss(name: str, scale: Tensor | float = 1.0) -> Loss:
    """Mean over all elements of |d| (``l1``) or d^2 (``l2``), d = (generated - target) / scale; targets may add leading
    dimensions.
    """

    def loss(generated: Tensor, target: Tensor) -> Tensor:
        difference = (generated - target) / scale
        return difference.abs().mean() if name == "l1" else difference.square().mean()

    return loss


def loss_from(network: nn.Module, targets: Tensor, labels: Tensor, start: int, loss: Loss) -> Tensor:
    """Loss of the frames after frame ``start`` generated from it, against all (M, B, T+1, L, 3) targets of each
    sequence.
    """
    last = targets.shape[2] - 1
    return loss(network(targets[0, :, start], labels, last - start), targets[:, :, start + 1 :])


def start_frames(config: GeneratorConfig, last: int) -> Sequence[int]:
    """The frames to generate from, one optimiser step for each: in the thesis all, last to first, of frames
    0..``last``.
    """
    return range(last - 1, -1, -1) if config.start_frames == "every" else (0,)


def make_step(
    network: nn.Module, config: GeneratorConfig, loss: Loss, device: torch.device
) -> tuple[Callable[..., Tensor], torch.optim.Adam]:
    """The optimiser step and its optimiser.

    On a GPU the optimiser keeps its learning rate and its count of steps there, and a step is replayed as a CUDA graph
    (:mod:`face4d.runtime.device`) unless several processes share it.

    Returns:
        step(targets (M, B, T+1, L, 3), labels (B,), key=start frame, part=share of the batch) -> () mean loss over the
        whole batch; and Adam.
    """
    on_gpu = device.type == "cuda"
    rate = torch.tensor(config.lr, device=device) if on_gpu else config.lr
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=True, capturable=on_gpu)

    def step(targets: Tensor, labels: Tensor, *, key: int, part: distributed.Share = distributed.WHOLE) -> Tensor:
        optimizer.zero_grad()
        with autocast(config, device):
            value = loss_from(network, targets, labels, key, loss)
        value = distributed.backward(value, network.parameters(), part)
        if config.grad_clip:
            nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()
        return value

    if not on_gpu or distributed.world_size() > 1:
        return step, optimizer
    graphed = GraphedFunction(step, CudaGraphs())
    return lambda targets, labels, *, key, part: graphed(targets, labels, key=key), optimizer


@torch.no_grad()
def validate(network: nn.Module, displacements: Tensor, labels: Tensor) -> dict[str, float]:
    """Errors of frames 1..T generated from frame 0; draws no random number and changes nothing.

    All sequences have one length, so the mean over all elements is the thesis' mean over sequences of the loss at batch
    size one.

    Args:
        displacements: (N, T+1, L, 3), metres.
        labels: (N,) class indices.

    Returns:
        ``mse`` (metres squared), ``l1`` (metres), ``mm`` (mean Euclidean distance), ``mm_std`` (over all single
        distances).
    """
    last = displacements.shape[1] - 1
    starts = zip(displacements[:, 0].split(VALIDATION_BATCH), labels.split(VALIDATION_BATCH))
    generated = torch.cat([network(start, own, last) for start, own in starts])  # (N, T, L, 3)
    difference = (generated - displacements[:, 1:]).double()
    distance = difference.norm(dim=3) * MM_PER_METRE
    return {
        "mse": difference.square().mean().item(),
        "l1": difference.abs().mean().item(),
        "mm": distance.mean().item(),
        "mm_std": distance.std(correction=0).item(),
    }


def train(split: LandmarkSplit, config: GeneratorConfig, run: Run) -> dict[str, Any]:
    """Train a generator; :func:`face4d.runtime.training.run_epochs` says what is written.

    Args:
        split: sequences of one length; those held out are scored like the test set, and choose the weights with
            ``config.select == "validation"``.

    Returns:
        What metrics.json holds: mse, l1, mm, mm_std of the test set for the weights kept (``validation_...`` of
            held-out sequences), epoch, seconds.
    """
    device = run.device
    data, data_labels = tensors(split.train, split.labels, device)  # (N, T+1, L, 3) metres, (N,)
    sets = {"test": tensors(split.test, split.labels, device)}
    if split.held_out or config.select == "validation":
        sets["validation"] = tensors(split.held_out, split.labels, device)

    generator = seed_everything(config.seed)
    network = build_network(config, len(split.labels), data.shape[2])
    if config.network == "coefficients":
        network.fit_basis(data.cpu().flatten(0, 1))
    network.to(device)
    loss = make_loss(config.loss, data.square().mean().sqrt() if config.normalise_loss else 1.0)
    take_step, optimizer = make_step(network, config, loss, device)
    apexes = apex_frames(data)
    starts = start_frames(config, data.shape[1] - 1)
    num_batches = math.ceil(len(data) / config.batch_size)
    steps_per_epoch = num_batches * len(starts)

    def train_epoch(epoch: int) -> dict[str, float]:
        step = (epoch - 1) * steps_per_epoch
        loss_sum = torch.zeros((), device=device)
        for chosen in torch.randperm(len(data), generator=generator).to(device).split(config.batch_size):
            part = distributed.share(len(chosen))  # of this process; all of it where there is one
            batch, labels = data[chosen], data_labels[chosen][part.rows]  # (B, T+1, L, 3), (B,)
            if config.warps:
                average = config.loss == "l2"
                # (M or 1, B, T+1, L, 3)
                targets = warped_targets(
                    batch, apexes[chosen], apexes, config.warps, generator, part.rows, average=average
                )
            else:
                targets = batch[None, part.rows]  # (1, B, T+1, L, 3)
            for start in starts:
                step += 1
                set_learning_rate(optimizer, config, step / (config.epochs * steps_per_epoch))
                loss_sum += take_step(targets, labels, key=start, part=part)
        # Summed over start frames and averaged over batches: the number the thesis logs.
        return {"loss/train": loss_sum.item() / num_batches}

    def scores() -> tuple[dict[str, float], tuple[float, ...]]:
        found = {name: validate(network, *sequences) for name, sequences in sets.items()}
        deciding = found["validation" if config.select == "validation" else "test"]
        curves = {f"{name}/{key}": value for name, errors in found.items() for key, value in errors.items()}
        return curves, (deciding["mse" if config.loss == "l2" else "l1"],)

    def final_scores(kept: nn.Module) -> dict[str, float]:
        found = {name: validate(kept, *sequences) for name, sequences in sets.items()}
        return {**found["test"], **{f"validation_{key}": value for key, value in found.get("validation", {}).items()}}

    return run_epochs(
        network,
        optimizer,
        generator,
        config,
        run,
        kind=CHECKPOINT_KIND,
        identity=split.identity(num_landmarks=data.shape[2]),
        record=split.record(),
        train_epoch=train_epoch,
        validate=scores,
        final_scores=final_scores,
    )
