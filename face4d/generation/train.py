"""Training of the generators: one loop, two schedules."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from face4d.constants import MM_PER_METRE
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, digest, stack
from face4d.errors import InputError
from face4d.generation.augment import apex_frames, warped_targets
from face4d.generation.config import GeneratorConfig, build_network
from face4d.runtime.checkpoint import load_checkpoint, save_checkpoint
from face4d.runtime.device import describe, seed_everything
from face4d.runtime.interrupt import deferred_interrupt
from face4d.runtime.run_folder import RunFolder

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]
CHECKPOINT_KIND = "generator"
TRAINING_KIND = "generator training state"


def learning_rate(config: GeneratorConfig, progress: float) -> float:
    """Learning rate at ``progress`` in (0, 1] of all optimiser steps."""
    if config.lr_schedule == "constant":
        return config.lr
    rise = 0.1
    if progress < rise:
        return config.lr * progress / rise
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


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
    run: RunFolder,
    checkpoint: Path,
    *,
    held_out: Sequence[LandmarkSequence] = (),
    device: torch.device = torch.device("cpu"),
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    quiet: bool = False,
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a generator; write ``checkpoint`` (the weights kept), ``<stem>.last.pt`` beside it (to continue) and the run folder.

    Args:
        split: training and test sequences of one length.
        held_out: sequences that choose the weights with ``config.select == "validation"``.
        resume: continue from the last checkpoint if there is one; on the CPU the result is that of an uninterrupted run, bit for bit.
        checkpoint_seconds: time between last checkpoints; 0 = after every epoch.
        source: where the data came from, kept in config.json and in the checkpoint for later steps.

    Returns:
        What metrics.json holds: mse, l1, mm, mm_std of the test set for the weights kept, epoch, seconds.

    Raises:
        InputError: the last checkpoint is of other data or another configuration.
        KeyboardInterrupt: after Ctrl-C, once the running epoch is finished and saved.
    """
    on_device = lambda sequences: tuple(torch.from_numpy(array).to(device) for array in stack(sequences, split.labels))  # noqa: E731
    data, data_labels = on_device(split.train)  # (N, T+1, L, 3) metres, (N,)
    test, test_labels = on_device(split.test)
    chooser, chooser_labels = on_device(held_out) if config.select == "validation" else (test, test_labels)

    generator = seed_everything(config.seed)
    network = build_network(config, len(split.labels), data.shape[2])
    if config.network == "coefficients":
        network.fit_basis(data.cpu().flatten(0, 1))
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    loss = make_loss(config.loss, data.square().mean().sqrt() if config.normalise_loss else 1.0)
    apexes = apex_frames(data)

    identity = {
        "config": config.as_dict(),
        "labels": list(split.labels),
        "num_landmarks": data.shape[2],
        "frames": data.shape[1],
        "data_digest": digest((*split.train, *held_out, *split.test)),
        "source": source or {},
    }
    state: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "best_score": math.inf, "best_epoch": 0, "waited": 0}
    best_weights: dict[str, Tensor] | None = None
    last_path = checkpoint.with_name(checkpoint.stem + ".last.pt")
    if resume and last_path.is_file():
        saved = load_checkpoint(last_path, TRAINING_KIND, device=device)
        require_same_run(last_path, saved, identity)
        network.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["rng"].cpu())
        state, best_weights = saved["state"], saved["best_model"]
        log.info("%s: continuing after epoch %d of %d", last_path, state["epoch"], config.epochs)

    def save_state() -> None:
        content = {"model": network.state_dict(), "best_model": best_weights, "optimizer": optimizer.state_dict()}
        save_checkpoint(last_path, TRAINING_KIND, {**identity, **content, "rng": generator.get_state(), "state": state})

    names = lambda sequences: [f"{sequence.label}_{sequence.subject}" for sequence in sequences]  # noqa: E731
    sets = {"train": names(split.train), "held_out": names(held_out), "test": names(split.test)}
    run.write_config({**identity, "device": describe(device), "sets": sets})
    run.open_curves(state["epoch"] + 1)

    num_batches = math.ceil(len(data) / config.batch_size)
    steps_per_epoch = num_batches * (data.shape[1] - 1 if config.start_frames == "every" else 1)
    begun = time.monotonic() - state["seconds"]
    saved_at = time.monotonic()
    bar = tqdm(total=config.epochs, initial=state["epoch"], desc=run.path.name, unit="epoch", disable=quiet, dynamic_ncols=True)
    with deferred_interrupt() as interrupted, bar:
        while state["epoch"] < config.epochs and not (config.patience and state["waited"] >= config.patience):
            epoch = state["epoch"] + 1
            step = state["epoch"] * steps_per_epoch
            loss_sum = torch.zeros((), device=device)
            for chosen in torch.randperm(len(data), generator=generator).to(device).split(config.batch_size):
                batch, labels = data[chosen], data_labels[chosen]  # (B, T+1, L, 3), (B,)
                if config.start_frames == "every":
                    losses = losses_from_every_frame(network, batch, labels, loss)
                elif config.warps:
                    targets = warped_targets(batch, apexes[chosen], apexes, config.warps, generator)  # (M, B, T+1, L, 3)
                    losses = losses_from_first_frame(network, targets, labels, loss)
                else:
                    losses = losses_from_first_frame(network, batch[None], labels, loss)
                for value in losses:
                    step += 1
                    for group in optimizer.param_groups:
                        group["lr"] = learning_rate(config, step / (config.epochs * steps_per_epoch))
                    optimizer.zero_grad()
                    value.backward()
                    if config.grad_clip:
                        nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
                    optimizer.step()
                    loss_sum += value.detach()

            # Summed over start frames and averaged over batches: the number the thesis logs.
            curves = {"loss/train": loss_sum.item() / num_batches}
            if not math.isfinite(curves["loss/train"]):
                raise InputError(run.path, "a finite training loss", f"{curves['loss/train']} in epoch {epoch} (a lower --lr?)")
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                scores = validate(network, test, test_labels)
                curves |= {f"validation/{name}": value for name, value in scores.items()}
                score = scores if chooser is test else validate(network, chooser, chooser_labels)
                key = "mse" if config.loss == "l2" else "l1"
                if score[key] < state["best_score"]:
                    state |= {"best_score": score[key], "best_epoch": epoch, "waited": 0}
                    if config.select != "last":
                        best_weights = {name: value.clone() for name, value in network.state_dict().items()}
                else:
                    state["waited"] += 1
                if not quiet:
                    tqdm.write(f"epoch {epoch}: train {curves['loss/train']:.4g}, test mse {scores['mse']:.3g}, l1 {scores['l1']:.4g}, {scores['mm']:.3f} mm")
            run.scalars(curves, epoch)
            bar.set_postfix(loss=f"{curves['loss/train']:.4g}", refresh=False)
            bar.update()
            state |= {"epoch": epoch, "seconds": time.monotonic() - begun}
            if interrupted() or time.monotonic() - saved_at >= checkpoint_seconds:
                save_state()
                saved_at = time.monotonic()
            if interrupted():
                run.close()
                raise KeyboardInterrupt
    save_state()

    kept_epoch = state["epoch"]
    if best_weights is not None:
        network.load_state_dict(best_weights)
        kept_epoch = state["best_epoch"]
    metrics = {**validate(network, test, test_labels), "epoch": kept_epoch, "epochs_trained": state["epoch"]}
    metrics |= {"seconds": round(state["seconds"], 2), "selected_by": config.select, "train_loss": config.loss}
    save_checkpoint(checkpoint, CHECKPOINT_KIND, {**identity, "model": network.state_dict(), "epoch": kept_epoch, "metrics": metrics})
    run.write_metrics(metrics)
    run.close()
    return metrics


def require_same_run(path: Path, saved: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuse to continue a run with another configuration or other data.

    Raises:
        InputError: naming the first difference.
    """
    for key, value in identity["config"].items():
        if saved["config"].get(key) != value:
            raise InputError(path, f"a run with {key} = {value}", f"{saved['config'].get(key)}")
    for key in ("labels", "frames", "num_landmarks", "data_digest"):
        if saved[key] != identity[key]:
            raise InputError(path, f"a run on the same data ({key} {str(identity[key])[:40]})", str(saved[key])[:40])
