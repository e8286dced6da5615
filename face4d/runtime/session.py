"""A training run from the loop's side: the loop asks it for epochs and batches and hands it losses, curves and scores.

    session = Session(run, task)
    if session.metrics is None:  # else it is finished already
        session.start(network, optimizer, random)
        for epoch in session.epochs():
            for chosen in session.batches(len(data)):
                optimizer.zero_grad()
                with session.precision():
                    loss = ...  # mean over the samples of this process, chosen[session.rows]
                loss = session.backward(loss)
                optimizer.step()
            session.log({"train/loss": ...})
            if session.validates:
                session.validated({"test/mse": ...}, rank=(...,))
        session.finish(scores of session.kept())

What it does besides: resuming, Ctrl-C, curves, selection of weights, checkpoints, the progress bar, several processes,
precision.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from face4d.errors import InputError
from face4d.runtime import distributed
from face4d.runtime.checkpoint import load_checkpoint, save_checkpoint
from face4d.runtime.config import TrainingConfig
from face4d.runtime.device import autocast, describe, multiplies_bf16
from face4d.runtime.fields import METRICS
from face4d.runtime.interrupt import deferred_interrupt
from face4d.runtime.progress import track
from face4d.runtime.run_folder import Run
from face4d.runtime.training_state import STATE_FIELDS, Stepping, check_state

log = logging.getLogger(__name__)

RISE = 0.1  # part of a one-cycle schedule in which the learning rate rises
TRAINING_LOSS = "train/loss"


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """Learning rate at ``progress`` in (0, 1] of all optimiser steps: constant, or a linear rise over a tenth and a
    cosine fall to zero.
    """
    if config.lr_schedule == "constant":
        return config.lr
    if progress < RISE:
        return config.lr * progress / RISE
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - RISE) / (1 - RISE)))


def set_learning_rate(optimizer: Stepping, rate: float) -> None:
    """Give all parameter groups a learning rate; one that is a tensor stays where it is in memory."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def tagged(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores by tag: ``{"test": errors}`` of a dataclass with ``mse`` and ``mm`` is
    ``{"test/mse": ..., "test/mm": ...}``.
    """
    return {f"{name}/{key}": value for name, values in scores.items() for key, value in asdict(values).items()}


@dataclass(frozen=True)
class Task:
    """What is trained, on what: stored in the checkpoints and in config.json.

    Attributes:
        kind: of the checkpoint: ``generator``, ``classifier``, ...
        config: network and training.
        identity: class names, shapes, and ``data_digest``: equal in a run that is continued.
        origin: where the data came from, which need not be equal: ``source``, ``sets``.
        attachments: arrays for the checkpoint alone.
    """

    kind: str
    config: TrainingConfig
    identity: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, Any] = field(default_factory=dict)

    def fixed(self) -> dict[str, Any]:
        """What two states of one run share."""
        return {"config": self.config.as_dict(), **self.identity}


@dataclass
class Progress:
    """How far a run is; saved with its weights.

    Attributes:
        epoch: epochs trained.
        seconds: that they took.
        best_score: of the best weights so far; smaller is better.
        best_epoch: whose weights these are.
        waited: validations since.
        finished: nothing is left to do.
    """

    epoch: int = 0
    seconds: float = 0.0
    best_score: list[float] | None = None
    best_epoch: int = 0
    waited: int = 0
    finished: bool = False


class Session:
    """One training run; see the top of this module.

    On the CPU an interrupted and resumed run ends with the weights of an uninterrupted one, bit for bit: weights,
    optimiser and random numbers are saved together at the end of an epoch, and everything in an epoch follows from
    them.

    With several processes (:mod:`face4d.runtime.distributed`) all run the same loop, each on its share of a batch; what
    rank 0 scores decides, and it alone reads and writes.

    Attributes:
        metrics: what metrics.json holds; None while the run is not finished.
        rows: of a batch, those of this process.

    Raises:
        InputError: a state to continue that is of another run, or processes with different data.
    """

    metrics: dict[str, Any] | None
    rows: slice

    def __init__(self, run: Run, task: Task) -> None:
        self.run, self.task, self.config = run, task, task.config
        self.quiet = run.quiet or not distributed.is_main()
        self.rows = slice(None)
        self._share = distributed.WHOLE
        self._curves: dict[str, float] = {}
        self._best: dict[str, Tensor] | None = None
        for name in ("config", "data_digest"):
            distributed.require_equal(run.folder.path, name, task.fixed()[name])
        self._saved, self.metrics = distributed.from_main(self._read_state)

    def _read_state(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """The state to continue from and, where nothing is left to do, the metrics."""
        run, kind = self.run, self.task.kind
        if not run.resume or not run.last.is_file():
            return None, None
        saved = load_checkpoint(run.last, f"{kind} training state", STATE_FIELDS)
        require_same_run(run.last, saved["identity"], self.task)
        if saved["state"]["finished"] and run.checkpoint.is_file():
            log.info("%s: finished already", run.checkpoint)
            return None, load_checkpoint(run.checkpoint, kind, {"metrics": METRICS})["metrics"]
        return saved, None

    def start(self, network: nn.Module, optimizer: Stepping, random: torch.Generator) -> None:
        """Take what is trained, what trains it and the random numbers it draws; give them the state to continue from,
        if there is one.

        Args:
            optimizer: or something with ``state_dict``, ``load_state_dict`` and ``param_groups`` over several
                (``_asdict``).
            random: on the CPU.

        Raises:
            InputError: a state that does not fit them.
        """
        self.network, self.optimizer, self.random = network, optimizer, random
        config, run, saved = self.config, self.run, self._saved
        if config.precision == "bf16" and distributed.is_main() and not multiplies_bf16(run.device):
            log.warning(
                "note: --precision bf16: %s has no instructions for it (AMX, AVX512-BF16), so fp32 will be faster",
                describe(run.device),
            )
        if config.precision == "tf32" and distributed.is_main() and run.device.type != "cuda":
            log.warning("note: --precision tf32: %s multiplies in fp32 all the same", describe(run.device))
        distributed.broadcast_weights(network)
        self.progress = Progress()
        if saved is not None:
            with distributed.agreement():
                check_state(run.last, saved, network, optimizer, random)
            log.info("%s: continuing after epoch %d of %d", run.last, saved["state"]["epoch"], config.epochs)
            network.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"] = group["lr"].to(run.device)
            try:
                random.set_state(saved["rng"]["data"])
                torch.set_rng_state(saved["rng"]["torch"])
            except RuntimeError:
                raise InputError(run.last, "rng to be the state of random numbers", "bytes that are none") from None
            self.progress = Progress(**{key.name: saved["state"][key.name] for key in fields(Progress)})
            self._best, self._saved = saved.get("best_model"), None
        distributed.from_main(self._open_record)

    def _open_record(self) -> None:
        run, task = self.run, self.task
        self._folder = run.folder
        self._folder.write_config(
            {**task.fixed(), **task.origin, "device": describe(run.device), "processes": distributed.world_size()}
        )
        self._folder.open_curves(self.progress.epoch + 1)

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left: 1, 2, ... up to the configuration's, or until its patience is over.

        Raises:
            InputError: a training loss that is no longer finite (:meth:`log`).
            KeyboardInterrupt: after Ctrl-C, once the running epoch is finished and saved.
        """
        config, progress = self.config, self.progress
        begun = time.monotonic() - progress.seconds
        saved_at = time.monotonic()
        self._bar = track(self.run.name, total=config.epochs, initial=progress.epoch, unit="epoch", quiet=self.quiet)
        with deferred_interrupt() as interrupted, self._bar:
            while progress.epoch < config.epochs and not (config.patience and progress.waited >= config.patience):
                self.epoch, self._curves = progress.epoch + 1, {}
                yield self.epoch
                if distributed.is_main():
                    self._folder.scalars(self._curves, self.epoch)
                self._bar.set_postfix(loss=f"{self._curves[TRAINING_LOSS]:.4g}", refresh=False)
                self._bar.update()
                progress.epoch, progress.seconds = self.epoch, time.monotonic() - begun
                stop = distributed.any_rank(interrupted())
                if stop or time.monotonic() - saved_at >= self.run.checkpoint_seconds:
                    self._save_state()
                    saved_at = time.monotonic()
                if stop:
                    self._close_record()
                    distributed.interrupt()

    def batches(self, count: int, *, whole: bool = False) -> Iterator[Tensor]:
        """Numbers of the samples of each batch, (B,) int64 on the device: 0..``count`` - 1 in random order; sets
        :attr:`rows`.

        Args:
            whole: leave out what fills no batch, unless there is no other.
        """
        size = self.config.batch_size
        order = torch.randperm(count, generator=self.random).to(self.run.device)
        for chosen in order[: count // size * size or count if whole else count].split(size):
            self._share = distributed.share(len(chosen))
            self.rows = self._share.rows
            yield chosen

    def precision(self) -> AbstractContextManager[None]:
        """The context of a forward pass, in the configuration's precision."""
        return autocast(self.config, self.run.device)

    def backward(self, loss: Tensor, network: nn.Module | None = None) -> Tensor:
        """Gradients of the mean loss over the whole batch, clipped as configured.

        Args:
            loss: () mean over :attr:`rows` of the batch.
            network: whose gradients, default the one that is trained.

        Returns:
            () mean loss over the whole batch, detached.
        """
        parameters = (network or self.network).parameters
        loss = distributed.backward(loss, parameters(), self._share)
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(parameters(), self.config.grad_clip)
        return loss

    def counted(self, number: Tensor) -> Tensor:
        """A number () that was counted over :attr:`rows`; 0 where another process has these rows, too."""
        return number * bool(self._share.weight)

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        """Add a point of this epoch to curves: ``train/loss``, which has to be among them, and others; the same in all
        processes.

        Raises:
            InputError: a training loss that is no longer finite.
        """
        self._curves |= {tag: float(value) for tag, value in values.items()}
        loss = self._curves[TRAINING_LOSS]
        if not math.isfinite(loss):
            with distributed.agreement():
                raise InputError(
                    self.run.folder.path, "a finite training loss", f"{loss} in epoch {self.epoch} (a lower --lr?)"
                )

    @property
    def validates(self) -> bool:
        """Whether this epoch ends with a validation."""
        return self.epoch % self.config.validate_every == 0 or self.epoch == self.config.epochs

    def validated(self, scores: Mapping[str, float], rank: tuple[float, ...]) -> None:
        """Add scores to the curves; keep the weights where they are the best so far and the configuration chooses any.

        Args:
            scores: by tag, ``test/mse``.
            rank: smaller for better weights.
        """
        scores, rank = distributed.from_main(lambda: (scores, rank))
        self._curves |= scores
        progress = self.progress
        if progress.best_score is None or list(rank) < progress.best_score:
            progress.best_score, progress.best_epoch, progress.waited = list(rank), self.epoch, 0
            if self.config.select != "last":
                self._best = {name: value.clone() for name, value in self.network.state_dict().items()}
        else:
            progress.waited += 1
        if not self.quiet:
            log.info("epoch %d: %s", self.epoch, ", ".join(f"{tag} {value:.4g}" for tag, value in self._curves.items()))

    def kept(self) -> Any:
        """The network that was started with, or a copy of it, with the weights kept: the last, or the best."""
        return self.network if self._best is None else with_weights(self.network, self._best)

    def finish(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Write the checkpoint of the weights kept, metrics.json and the last state.

        Args:
            scores: of the weights kept.

        Returns:
            What metrics.json holds: the scores, ``epoch`` of the weights, ``epochs_trained``, ``seconds``,
                ``selected_by``.
        """
        run, progress = self.run, self.progress
        epoch = progress.epoch if self._best is None else progress.best_epoch
        metrics = {**scores, "epoch": epoch, "epochs_trained": progress.epoch}
        metrics |= {"seconds": round(progress.seconds, 2), "selected_by": self.config.select}

        def write() -> dict[str, Any]:
            task = self.task
            weights = {"model": self.kept().state_dict(), "epoch": epoch, "metrics": metrics}
            save_checkpoint(run.checkpoint, task.kind, {**task.fixed(), **task.origin, **task.attachments, **weights})
            self._folder.write_metrics(metrics)
            self._close_record()
            progress.finished = True
            self._save_state()
            return metrics

        self.metrics = distributed.from_main(write)
        return self.metrics

    def _save_state(self) -> None:
        if not distributed.is_main():
            return
        weights = {
            "model": self.network.state_dict(),
            "best_model": self._best,
            "optimizer": self.optimizer.state_dict(),
        }
        rng = {"data": self.random.get_state(), "torch": torch.get_rng_state()}
        content = {"identity": self.task.fixed(), **weights, "rng": rng, "state": asdict(self.progress)}
        save_checkpoint(self.run.last, f"{self.task.kind} training state", content)

    def _close_record(self) -> None:
        if distributed.is_main():
            self._folder.close()


def with_weights(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The model over other weights, which are not copied; for use without gradients."""
    places = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    others: dict[int, Tensor] = {}  # by the identity of what they stand for
    for name, place in places.items():
        is_parameter = isinstance(place, nn.Parameter)
        others[id(place)] = nn.Parameter(weights[name], requires_grad=False) if is_parameter else weights[name]
    return copy.deepcopy(model, memo=others)


def require_same_run(path: Path, saved: Mapping[str, Any], task: Task) -> None:
    """Refuse to continue a run with another configuration or other data.

    Args:
        saved: what :meth:`Task.fixed` was; settings that it lacks, since there were none such, had their defaults.

    Raises:
        InputError: naming the first difference.
    """
    defaults = {key.name: key.default for key in fields(task.config)}
    wanted = task.fixed()
    for key, value in wanted["config"].items():
        if (found := saved["config"].get(key, defaults[key])) != value:
            raise InputError(path, f"a run with {key} = {value}", f"{found}")
    for key, value in wanted.items():
        if key != "config" and saved.get(key) != value:
            raise InputError(path, f"a run on the same data ({key} {str(value)[:40]})", str(saved.get(key))[:40])
