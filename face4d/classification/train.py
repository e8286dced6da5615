"""Training of the classifier: one loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from face4d.classification.augment import vary
from face4d.classification.config import ClassifierConfig
from face4d.classification.model import ExpressionClassifier, logits_of
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, digest, stack
from face4d.errors import InputError
from face4d.runtime.checkpoint import load_checkpoint, save_checkpoint
from face4d.runtime.device import describe, seed_everything
from face4d.runtime.interrupt import deferred_interrupt
from face4d.runtime.run_folder import RunFolder

log = logging.getLogger(__name__)

CHECKPOINT_KIND = "classifier"
TRAINING_KIND = "classifier training state"


def learning_rate(config: ClassifierConfig, progress: float) -> float:
    """Learning rate at ``progress`` in (0, 1] of all optimiser steps."""
    if config.lr_schedule == "constant":
        return config.lr
    rise = 0.2
    if progress < rise:
        return config.lr * progress / rise
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


@torch.no_grad()
def validate(model: ExpressionClassifier, displacements: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and cross-entropy over all frames; draws no random number and changes nothing.

    Args:
        displacements: (N, T+1, L, 3), metres; labels: (N,) class indices.

    Returns:
        ``accuracy`` in 0..1, ``loss`` (mean cross-entropy, nats).
    """
    logits = logits_of(model, displacements)
    return {"accuracy": (logits.argmax(1) == labels).double().mean().item(), "loss": cross_entropy(logits, labels).item()}


def train(
    split: LandmarkSplit,
    config: ClassifierConfig,
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
    """Train a classifier on frames 0..T; write ``checkpoint`` (the weights kept), ``<stem>.last.pt`` beside it and the run folder.

    Args:
        split: training and test sequences of one length.
        held_out: sequences that choose the weights with ``config.select == "validation"``.
        resume: continue from the last checkpoint if there is one; on the CPU the result is that of an uninterrupted run, bit for bit.
        checkpoint_seconds: time between last checkpoints; 0 = after every epoch.
        source: where the data came from, kept in config.json and in the checkpoint for later steps.

    Returns:
        What metrics.json holds: accuracy and loss of the test and the training set for the weights kept, epoch, seconds.

    Raises:
        InputError: the last checkpoint is of other data or another configuration, or the loss is no longer finite.
        KeyboardInterrupt: after Ctrl-C, once the running epoch is finished and saved.
    """
    data, data_labels = _tensors(split.train, split.labels, device)  # (N, T+1, L, 3) metres, (N,)
    test, test_labels = _tensors(split.test, split.labels, device)
    chooser, chooser_labels = test, test_labels
    if config.select == "validation":
        if not held_out:
            raise InputError("--select validation", "held-out training subjects", "none")
        chooser, chooser_labels = _tensors(held_out, split.labels, device)

    generator = seed_everything(config.seed)
    rms = data.square().mean().sqrt().item()
    input_scale = 1 / rms if config.scale_input and rms > 0 else 1.0
    size = {"hidden_size": config.hidden_size, "layers": config.layers, "input_scale": input_scale, "num_landmarks": data.shape[2]}
    model = ExpressionClassifier(len(split.labels), **size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)

    identity = {
        "config": config.as_dict(),
        "labels": list(split.labels),
        "network": size,
        "frames": data.shape[1],
        "data_digest": digest((*split.train, *held_out, *split.test)),
        "source": source or {},
    }
    state: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "best_accuracy": -1.0, "best_loss": math.inf, "best_epoch": 0, "waited": 0}
    best_weights: dict[str, Tensor] | None = None
    last_path = checkpoint.with_name(checkpoint.stem + ".last.pt")
    if resume and last_path.is_file():
        saved = load_checkpoint(last_path, TRAINING_KIND, device=device)
        _require_same_run(last_path, saved, identity)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["rng"]["data"].cpu())
        torch.set_rng_state(saved["rng"]["torch"].cpu())
        state, best_weights = saved["state"], saved["best_model"]
        log.info("%s: continuing after epoch %d of %d", last_path, state["epoch"], config.epochs)

    def save_state() -> None:
        content = {"model": model.state_dict(), "best_model": best_weights, "optimizer": optimizer.state_dict()}
        rng = {"data": generator.get_state(), "torch": torch.get_rng_state()}
        save_checkpoint(last_path, TRAINING_KIND, {**identity, **content, "rng": rng, "state": state})

    names = lambda sequences: [f"{sequence.label}_{sequence.subject}" for sequence in sequences]  # noqa: E731
    sets = {"train": names(split.train), "held_out": names(held_out), "test": names(split.test)}
    run.write_config({**identity, "device": describe(device), "sets": sets})
    run.open_curves(state["epoch"] + 1)

    num_batches = math.ceil(len(data) / config.batch_size)
    begun = time.monotonic() - state["seconds"]
    saved_at = time.monotonic()
    bar = tqdm(total=config.epochs, initial=state["epoch"], desc=run.path.name, unit="epoch", disable=quiet, dynamic_ncols=True)
    with deferred_interrupt() as interrupted, bar:
        while state["epoch"] < config.epochs and not (config.patience and state["waited"] >= config.patience):
            epoch = state["epoch"] + 1
            step = state["epoch"] * num_batches
            loss_sum = torch.zeros((), device=device)
            correct = torch.zeros((), device=device)
            for chosen in torch.randperm(len(data), generator=generator).to(device).split(config.batch_size):
                batch = vary(data, data_labels, chosen, generator) if config.augment else data[chosen]  # (B, T+1, L, 3)
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, step / (config.epochs * num_batches))
                logits = model(batch)  # (B, C)
                loss = cross_entropy(logits, data_labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                if config.grad_clip:
                    nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
                optimizer.step()
                loss_sum += loss.detach() * len(chosen)
                correct += (logits.detach().argmax(1) == data_labels[chosen]).sum()

            curves = {"loss/train": loss_sum.item() / len(data), "accuracy/train": correct.item() / len(data)}
            if not math.isfinite(curves["loss/train"]):
                raise InputError(run.path, "a finite training loss", f"{curves['loss/train']} in epoch {epoch} (a lower --lr?)")
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                scores = validate(model, test, test_labels)
                curves |= {"loss/test": scores["loss"], "accuracy/test": scores["accuracy"]}
                if chooser is not test:
                    scores = validate(model, chooser, chooser_labels)
                    curves |= {"loss/validation": scores["loss"], "accuracy/validation": scores["accuracy"]}
                # Accuracies of few sequences tie often; among equals the smaller loss is the better classifier.
                if (scores["accuracy"], -scores["loss"]) > (state["best_accuracy"], -state["best_loss"]):
                    state |= {"best_accuracy": scores["accuracy"], "best_loss": scores["loss"], "best_epoch": epoch, "waited": 0}
                    if config.select != "last":
                        best_weights = {name: value.clone() for name, value in model.state_dict().items()}
                else:
                    state["waited"] += 1
                if not quiet:
                    tqdm.write(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in curves.items()))
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
        model.load_state_dict(best_weights)
        kept_epoch = state["best_epoch"]
    metrics: dict[str, Any] = {}
    for name, sequences, labels in (("test", test, test_labels), ("train", data, data_labels)):
        metrics |= {f"{name}_{key}": value for key, value in validate(model, sequences, labels).items()}
    if chooser is not test:
        metrics |= {f"validation_{key}": value for key, value in validate(model, chooser, chooser_labels).items()}
    metrics |= {"epoch": kept_epoch, "epochs_trained": state["epoch"], "seconds": round(state["seconds"], 2), "selected_by": config.select}
    save_checkpoint(checkpoint, CHECKPOINT_KIND, {**identity, "model": model.state_dict(), "epoch": kept_epoch, "metrics": metrics})
    run.write_metrics(metrics)
    run.close()
    return metrics


def _tensors(sequences: Sequence[LandmarkSequence], labels: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    displacements, indices = stack(sequences, labels)
    return torch.from_numpy(displacements).to(device), torch.from_numpy(indices).to(device)


def _require_same_run(path: Path, saved: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuse to continue a run with another configuration or other data."""
    for key, value in identity["config"].items():
        if saved["config"].get(key) != value:
            raise InputError(path, f"a run with {key} = {value}", f"{saved['config'].get(key)}")
    for key in ("labels", "frames", "network", "data_digest"):
        if saved[key] != identity[key]:
            raise InputError(path, f"a run on the same data ({key} {str(identity[key])[:40]})", str(saved[key])[:40])


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and what was saved with it.

    Attributes:
        path: its checkpoint.
        model: in evaluation mode.
        labels: class names in the order of the class indices.
        frames: frames of a training sequence, the neutral one included.
        source: where its data came from, as typed when it was trained.
        metrics: scores of the training run.
    """

    path: Path
    model: ExpressionClassifier
    labels: tuple[str, ...]
    frames: int
    source: dict[str, Any]
    metrics: dict[str, Any]

    def predict(self, displacements: Any) -> Tensor:
        """Class indices (N,) int64, on the CPU, of displacements (N, T, L, 3) in metres (tensor or array)."""
        device = next(self.model.parameters()).device
        batch = torch.as_tensor(displacements, dtype=torch.float32, device=device)
        return logits_of(self.model, batch).argmax(1).cpu()


def load_classifier(path: str | Path, *, device: torch.device | str = "cpu") -> Classifier:
    """Load a classifier checkpoint.

    Raises:
        InputError: it is missing, damaged, of another program or does not fit its own configuration.
    """
    record = load_checkpoint(path, CHECKPOINT_KIND, device=device)
    model = ExpressionClassifier(len(record["labels"]), **record["network"])
    try:
        model.load_state_dict(record["model"])
    except RuntimeError as error:
        raise InputError(path, "weights of its own configuration", str(error).splitlines()[-1].strip()) from None
    model.to(device).eval()
    return Classifier(Path(path), model, tuple(record["labels"]), record["frames"], record["source"], record["metrics"])
