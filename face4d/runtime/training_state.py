"""What a training run saves to continue from, and whether it fits what is to continue."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from face4d.errors import InputError
from face4d.runtime.checkpoint import array, finite
from face4d.runtime.fields import (
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
    shown,
)

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


class Stepping(Protocol):
    """An optimiser, or what stands for several."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


def check_state(
    path: Path, saved: dict[str, Any], model: nn.Module, optimizer: Stepping, generator: torch.Generator
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
    several: Any = optimizer
    kept = {"optimizer": optimizer} if isinstance(optimizer, torch.optim.Optimizer) else several._asdict()
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
                    raise FieldError(f"{at}.{name}", f"of the shape {tuple(shapes[number_of])}", shown(moment))
        return value

    return verify


def _one_number(value: Any, place: str) -> Any:
    """A finite number; a learning rate on a GPU is a tensor."""
    return finite(value, place) if isinstance(value, Tensor) and not value.dim() else number()(value, place)
