"""What every training run does besides its mathematics: schedule, curves, selection of weights, checkpoints, Ctrl-C and
resuming.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from face4d.errors import InputError
from face4d.runtime import distributed
from face4d.runtime.checkpoint import array, finite, load_checkpoint, save_checkpoint
from face4d.runtime.config import TrainingConfig
from face4d.runtime.device import describe, multiplies_bf16
from face4d.runtime.fields import (
    METRICS,
    Check,
    FieldError,
    check,
    flag,
    integer,
    list_of,
    mapping,
    number,
    optional,
    plain,
    record,
    told,
)
from face4d.runtime.interrupt import deferred_interrupt
from face4d.runtime.progress import track
from face4d.runtime.run_folder import RunFolder

log = logging.getLogger(__name__)

RISE = 0.1

STATE_FIELDS = {
    "identity": record({"config": mapping(plain)}),
    "model": mapping(finite),
    "best_model": optional(mapping(finite)),
    "optimizer": record({}),
    "rng": record({"data": array(None, kind=torch.uint8), "torch": array(None, kind=torch.uint8)}),
    "state": record(
        {
            "epoch": integer(0, 10**9),
            "seconds": number(0),
            "best_score": optional(list_of(number(finite=False), 1, 10)),
            "best_epoch": integer(0, 10**9),
            "waited": integer(0, 10**9),
            "finished": flag,
        }
    ),
}
"""What a state to continue from holds, of whatever kind of model."""

_ADAM = ("step", "exp_avg", "exp_avg_sq")
_MOMENTS = {torch.optim.Adam: _ADAM, torch.optim.AdamW: _ADAM, torch.optim.RMSprop: ("step", "square_avg")}


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """Learning rate at ``progress`` in (0, 1] of all optimiser steps: constant, or a linear rise over a tenth and a
    cosine fall to zero.
    """
    if config.lr_schedule == "constant":
        return config.lr
    if progress < RISE:
        return config.lr * progress / RISE
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - RISE) / (1 - RISE)))


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainingConfig, progress: float) -> None:
    """Give all parameter groups the learning rate at ``progress``; one that is a tensor stays where it is."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate(config, progress))
        else:
            group["lr"] = learning_rate(config, progress)


@dataclass(frozen=True)
class Run:
    """Where a training run is written and how it is carried out; what is trained, its configuration says.

    Attributes:
        name: of its files.
        models: folder of its checkpoints.
        runs: folder of its record.
        device: that it trains on.
        resume: continue from the last checkpoint if there is one.
        checkpoint_seconds: time between last checkpoints; 0 = after every epoch.
        quiet: no progress bar and no line per validation.
    """

    name: str
    models: Path
    runs: Path
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (it does not change)
    resume: bool = False
    checkpoint_seconds: float = 30.0
    quiet: bool = False

    @property
    def checkpoint(self) -> Path:
        """The weights kept."""
        return self.models / f"{self.name}.pt"

    @property
    def last(self) -> Path:
        """The state to continue from."""
        return self.models / f"{self.name}.last.pt"

    @property
    def folder(self) -> RunFolder:
        """Its record."""
        return RunFolder(self.runs / self.name)

    @property
    def finished_at(self) -> int | None:
        """When the weights kept were written, nanoseconds; None = not yet. A run that is finished and resumed keeps
        them.
        """
        return self.checkpoint.stat().st_mtime_ns if self.checkpoint.is_file() else None


def run_epochs(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    config: TrainingConfig,
    run: Run,
    *,
    kind: str,
    identity: dict[str, Any],
    record: dict[str, Any],
    attachments: dict[str, Any] | None = None,
    train_epoch: Callable[[int], dict[str, float]],
    validate: Callable[[], tuple[dict[str, float], tuple[float, ...]]],
    final_scores: Callable[[nn.Module], dict[str, Any]],
) -> dict[str, Any]:
    """Run epochs until the configuration's end; write the checkpoints, config.json, curves and metrics.json.

    On the CPU an interrupted and resumed run ends with the weights of an uninterrupted one, bit for bit: weights,
    optimiser and random numbers are saved together at the end of an epoch, and everything in an epoch follows from
    them.

    With several processes (:mod:`face4d.runtime.distributed`) all run the epochs; rank 0 alone validates, decides,
    reads and writes.

    Args:
        kind: ``generator`` or ``classifier``, the kind of the checkpoint.
        identity: class names, shapes and data digest; stored with the configuration in both checkpoints, and equal in a
            run that is continued.
        record: more for the checkpoint and config.json that need not be equal (where the data came from).
        attachments: arrays for the checkpoint alone.
        train_epoch: trains epoch 1, 2, ... and returns its curves, ``loss/train`` among them, the same in all
            processes.
        validate: curves, and the score of the weights as a tuple that is smaller for better weights.
        final_scores: scores of the weights kept, for metrics.json.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: a loss that is no longer finite, a state to continue that is of another run, or processes with
            different data.
        KeyboardInterrupt: after Ctrl-C, once the running epoch is finished and saved.
    """
    state: dict[str, Any] = {
        "epoch": 0,
        "seconds": 0.0,
        "best_score": None,
        "best_epoch": 0,
        "waited": 0,
        "finished": False,
    }
    best_weights: dict[str, Tensor] | None = None
    identity = {"config": config.as_dict(), **identity}
    folder = run.folder
    is_main = distributed.is_main()
    quiet = run.quiet or not is_main
    for key in ("config", "data_digest"):
        distributed.require_equal(folder.path, key, identity[key])
    if config.precision == "bf16" and is_main and not multiplies_bf16(run.device):
        log.warning(
            "note: --precision bf16: %s has no instructions for it (AMX, AVX512-BF16), so fp32 will be faster",
            describe(run.device),
        )
    distributed.broadcast_weights(model)

    def load_state() -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """The state to continue from and, where nothing is left to do, the metrics."""
        if not run.resume or not run.last.is_file():
            return None, None
        saved = load_checkpoint(run.last, f"{kind} training state", STATE_FIELDS)
        require_same_run(run.last, saved["identity"], identity)
        if saved["state"]["finished"] and run.checkpoint.is_file():
            log.info("%s: finished already", run.checkpoint)
            return None, load_checkpoint(run.checkpoint, kind, {"metrics": METRICS})["metrics"]
        check_state(run.last, saved, model, optimizer, generator)
        log.info("%s: continuing after epoch %d of %d", run.last, saved["state"]["epoch"], config.epochs)
        return saved, None

    saved, metrics = distributed.from_main(load_state)
    if metrics is not None:
        return metrics
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"] = group["lr"].to(run.device)
        try:
            generator.set_state(saved["rng"]["data"])
            torch.set_rng_state(saved["rng"]["torch"])
        except RuntimeError:
            raise InputError(run.last, "rng to be the state of random numbers", "bytes that are none") from None
        state, best_weights = saved["state"], saved.get("best_model")

    def save_state() -> None:
        if not is_main:
            return
        weights = {"model": model.state_dict(), "best_model": best_weights, "optimizer": optimizer.state_dict()}
        rng = {"data": generator.get_state(), "torch": torch.get_rng_state()}
        save_checkpoint(
            run.last, f"{kind} training state", {"identity": identity, **weights, "rng": rng, "state": state}
        )

    def open_record() -> None:
        folder.write_config(
            {**identity, **record, "device": describe(run.device), "processes": distributed.world_size()}
        )
        folder.open_curves(state["epoch"] + 1)

    distributed.from_main(open_record)
    begun = time.monotonic() - state["seconds"]
    saved_at = time.monotonic()
    bar = track(run.name, total=config.epochs, initial=state["epoch"], unit="epoch", quiet=quiet)
    with deferred_interrupt() as interrupted, bar:
        while state["epoch"] < config.epochs and not (config.patience and state["waited"] >= config.patience):
            epoch = state["epoch"] + 1
            curves = train_epoch(epoch)
            if not math.isfinite(curves["loss/train"]):
                with distributed.agreement():
                    raise InputError(
                        folder.path,
                        "a finite training loss",
                        f"{curves['loss/train']} in epoch {epoch} (a lower --lr?)",
                    )
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                scores, score = distributed.from_main(validate)
                curves |= scores
                if state["best_score"] is None or list(score) < state["best_score"]:
                    state |= {"best_score": list(score), "best_epoch": epoch, "waited": 0}
                    if config.select != "last" and is_main:
                        best_weights = {name: value.clone() for name, value in model.state_dict().items()}
                else:
                    state["waited"] += 1
                if not quiet:
                    bar.write(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in curves.items()))
            if is_main:
                folder.scalars(curves, epoch)
            bar.set_postfix(loss=f"{curves['loss/train']:.4g}", refresh=False)
            bar.update()
            state |= {"epoch": epoch, "seconds": time.monotonic() - begun}
            stop = distributed.any_rank(interrupted())
            if stop or time.monotonic() - saved_at >= run.checkpoint_seconds:
                save_state()
                saved_at = time.monotonic()
            if stop:
                folder.close()
                distributed.interrupt()

    def finish() -> dict[str, Any]:
        kept, kept_epoch = model, state["epoch"]
        if best_weights is not None:
            kept, kept_epoch = with_weights(model, best_weights), state["best_epoch"]
        metrics = {**final_scores(kept), "epoch": kept_epoch, "epochs_trained": state["epoch"]}
        metrics |= {"seconds": round(state["seconds"], 2), "selected_by": config.select}
        content = {
            **identity,
            **record,
            **(attachments or {}),
            "model": kept.state_dict(),
            "epoch": kept_epoch,
            "metrics": metrics,
        }
        save_checkpoint(run.checkpoint, kind, content)
        folder.write_metrics(metrics)
        folder.close()
        state["finished"] = True
        save_state()
        return metrics

    return distributed.from_main(finish)


def check_state(
    path: Path, saved: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    """Refuse a state that does not fit the model and the optimiser that are to continue from it.

    Raises:
        InputError: weights, moments or random numbers that are missing, of other shapes or not finite.
    """
    own = {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
    for group in ("model", "best_model"):
        if (
            saved.get(group) is not None
            and {name: (value.shape, value.dtype) for name, value in saved[group].items()} != own
        ):
            raise InputError(path, f"the {len(own)} weights of this network as {group}", "others")
    for name, now in (("data", generator.get_state()), ("torch", torch.get_rng_state())):
        if saved["rng"][name].shape != now.shape:
            raise InputError(path, f"{len(now)} bytes of random numbers as rng.{name}", str(len(saved["rng"][name])))
    kept = {"optimizer": optimizer} if isinstance(optimizer, torch.optim.Optimizer) else optimizer._asdict()
    for name, part in kept.items():
        values = saved["optimizer"] if part is optimizer else saved["optimizer"].get(name)
        check(path, values, _optimizer_state(part), "optimizer" if part is optimizer else f"optimizer.{name}")


def _optimizer_state(optimizer: torch.optim.Optimizer) -> Check:
    """Description of a saved optimiser: the settings it has now in numbers, and of each parameter moments of its
    shape.
    """

    def setting(value: Any) -> Check:
        return list_of(number(), 2, 2) if isinstance(value, tuple) else _one_number

    groups = optimizer.state_dict()["param_groups"]
    settings = {
        key: setting(value)
        for key, value in groups[0].items()
        if type(value) in (float, tuple) or isinstance(value, Tensor)
    }
    shapes = [place.shape for group in optimizer.param_groups for place in group["params"]]
    moments = record(dict.fromkeys(_MOMENTS[type(optimizer)], finite))

    def verify(value: Any, place: str) -> dict[str, Any]:
        found = record(
            {"state": plain, "param_groups": list_of(record({**settings, "params": plain}), len(groups), len(groups))}
        )(value, place)
        if [group["params"] for group in found["param_groups"]] != [group["params"] for group in groups]:
            raise FieldError(f"{place}.param_groups", f"of {len(shapes)} parameters", "of others")
        for number_of, entries in found["state"].items() if isinstance(found["state"], dict) else ():
            at = f"{place}.state[{number_of}]"
            if type(number_of) is not int or not 0 <= number_of < len(shapes):
                raise FieldError(at, f"of one of {len(shapes)} parameters", "of another")
            for name, moment in moments(entries, at).items():
                if isinstance(moment, Tensor) and moment.shape not in ((), shapes[number_of]):
                    raise FieldError(f"{at}.{name}", f"of the shape {tuple(shapes[number_of])}", told(moment))
        return value

    return verify


def _one_number(value: Any, place: str) -> Any:
    """A finite number; a learning rate on a GPU is a tensor."""
    return finite(value, place) if isinstance(value, Tensor) and not value.dim() else number()(value, place)


def with_weights(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The model over other weights, which are not copied; for use without gradients."""
    places = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    others: dict[int, Tensor] = {}  # by the identity of what they stand for
    for name, place in places.items():
        is_parameter = isinstance(place, nn.Parameter)
        others[id(place)] = nn.Parameter(weights[name], requires_grad=False) if is_parameter else weights[name]
    return copy.deepcopy(model, memo=others)


def require_same_run(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to continue a run with another configuration or other data.

    Raises:
        InputError: naming the first difference.
    """
    for key, value in wanted["config"].items():
        if saved["config"].get(key) != value:
            raise InputError(path, f"a run with {key} = {value}", f"{saved['config'].get(key)}")
    for key, value in wanted.items():
        if saved.get(key) != value:
            raise InputError(path, f"a run on the same data ({key} {str(value)[:40]})", str(saved.get(key))[:40])
