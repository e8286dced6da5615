"""Checkpoints: plain dictionaries of tensors, numbers, strings and containers, checked field by field when they are
loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from face4d.errors import InputError
from face4d.runtime.atomic import replacing
from face4d.runtime.fields import Check, FieldError, Fields, check, integer, record, shown
from face4d.runtime.torch_file import read_torch_file

FORMAT_VERSION = 1
PARALLEL = "module."  # of all weights of a network that torch's DataParallel held
_COUNTER = "num_batches_tracked"  # of batch normalisations; read by nothing here, and absent from old files


def save_checkpoint(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Save ``content`` under ``path``, whole or not at all.

    Args:
        kind: which program part reads it back, e.g. ``generator`` or ``classifier``.
        content: ``config, labels, model`` and, to continue training, ``optimizer, epoch, rng, metrics`` ...; plain data
            only.
    """
    content = {"format": "face4d", "format_version": FORMAT_VERSION, "kind": kind, **content}
    # a path would be stored inside, and no two files be equal
    with replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own complaint about a write that failed hides why
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load_checkpoint(path: str | Path, kind: str, fields: Fields | None = None) -> dict[str, Any]:
    """Load what :func:`save_checkpoint` wrote.

    Args:
        kind: that it was saved as.
        fields: what its content must be (:mod:`face4d.runtime.fields`); whatever else is in it must be plain data.

    Raises:
        InputError: missing, damaged, from another program, of another kind, of a newer format, or a field that is not
            what it must be.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, f"a {kind} checkpoint", _instead_of(path))
    return checked_record(path, read_torch_file(path, f"a {kind} checkpoint of face4d"), kind, fields)


def checked_record(path: str | Path, content: Any, kind: str, fields: Fields | None = None) -> dict[str, Any]:
    """The content of a file once it is a checkpoint; see :func:`load_checkpoint`."""
    if not is_checkpoint(content):
        raise InputError(path, f"a {kind} checkpoint of face4d", "a file of another program")
    if content.get("kind") != kind:
        found = content.get("kind")
        raise InputError(
            path, f"a {kind} checkpoint", f"a {found} checkpoint" if isinstance(found, str) else "one without a kind"
        )
    version = content.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise InputError(
            path,
            f"checkpoint format {FORMAT_VERSION} or older",
            f"format {shown(version)}, of a later version of face4d",
        )
    return check(path, content, record({"format_version": integer(1, FORMAT_VERSION), **(fields or {})}))


def is_checkpoint(content: Any) -> bool:
    """Whether the content of a file says that :func:`save_checkpoint` wrote it."""
    return isinstance(content, dict) and content.get("format") == "face4d"


class Weights(dict[str, Tensor]):
    """What :func:`weights` has checked."""


def weights(value: Any, place: str) -> Weights:
    """A field of weights by name: tensors of finite numbers. Floating types become float32, and the prefix ``module.``
    of all names goes.
    """
    if isinstance(value, Weights):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise FieldError(place, "weights by name", shown(value))
    prefixed = bool(value) and all(key.startswith(PARALLEL) for key in value)
    return Weights(
        (key.removeprefix(PARALLEL) if prefixed else key, _float32(entry, f"{place}.{key}"))
        for key, entry in value.items()
    )


def _float32(value: Any, place: str) -> Tensor:
    return finite(value.float() if tensor(value, place).is_floating_point() else value, place)


def tensor(value: Any, place: str) -> Tensor:
    """A field that is a tensor."""
    if not isinstance(value, Tensor):
        raise FieldError(place, "an array of numbers", shown(value))
    return value


def finite(value: Any, place: str) -> Tensor:
    """A field that is a tensor of finite numbers."""
    tensor(value, place)
    # a sum is finite only where all its terms are, and takes a tenth of the time
    if value.is_floating_point() and not (value.sum().isfinite() or value.isfinite().all()):
        raise FieldError(place, "finite numbers", "NaN or infinity")
    return value


def array(
    *shape: int | None, kind: torch.dtype = torch.float32, low: int | None = None, high: int | None = None
) -> Check:
    """A field that is a tensor of this shape (None = any length but 0) and of finite numbers.

    Args:
        kind: ``float32``, or an integer type for whole numbers.
        low, high: of whole numbers.
    """
    lengths = ", ".join("n" if length is None else str(length) for length in shape) + ("," if len(shape) == 1 else "")
    expected = f"{'finite' if kind.is_floating_point else 'whole'} numbers ({lengths})"

    def verify(value: Any, place: str) -> Tensor:
        fits = isinstance(value, Tensor) and value.dim() == len(shape) and 0 not in value.shape
        if not fits or not all(length in (None, own) for length, own in zip(shape, value.shape)):
            raise FieldError(place, expected, shown(value))
        if kind.is_floating_point != value.is_floating_point() or value.dtype == torch.bool:
            raise FieldError(place, expected, shown(value))
        if kind.is_floating_point:
            return finite(value.to(kind), place)
        if (low is not None and value.min() < low) or (high is not None and value.max() > high):
            raise FieldError(
                place, f"{expected} in {low}..{'' if high is None else high}", f"{value.min()} to {value.max()}"
            )
        return value.to(kind)

    return verify


@contextmanager
def without_weights() -> Iterator[None]:
    """Within the block networks are made on the meta device: their weights take no memory, whatever sizes a file
    claims, and none are drawn.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Initial weights are left as they are: to draw them on the meta device, torch would load its compiler, a second
    and 75 MB.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function.__name__ in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def load_weights(
    network: nn.Module, values: Mapping[str, Tensor], path: str | Path, group: str = "model", *, others: bool = False
) -> None:
    """Fill a network, which may be one made :func:`without_weights`, with weights from a file.

    An absent or mis-shaped entry, which published programs skip without a word, is refused.

    Args:
        values: by name, as :func:`weights` takes them.
        group: what they are called in the file, for the error.
        others: there may be more of them than the network has.

    Raises:
        InputError: names the first entries that are missing, too many, of another shape or type, or not finite.
    """
    own = network.state_dict()
    values = check(path, values, weights, group)
    missing = [name for name in own if name not in values and not name.endswith(_COUNTER)]
    if missing:
        raise InputError(f"{path}, {group}", f"{len(own)} entries", f"none named {_first(missing)}")
    more = [name for name in values if name not in own]
    if more and not others:
        raise InputError(f"{path}, {group}", f"{len(own)} entries", f"others too: {_first(more)}")
    pairs = {name: (values[name], own[name]) for name in own if name in values}
    wrong = [
        f"{name} {tuple(found.shape)} for {tuple(wanted.shape)}"
        for name, (found, wanted) in pairs.items()
        if found.shape != wanted.shape
    ]
    if wrong:
        raise InputError(f"{path}, {group}", "entries of this network's shapes", _first(wrong))
    wrong = [f"{name} {shown(found)}" for name, (found, wanted) in pairs.items() if found.dtype != wanted.dtype]
    if wrong:
        raise InputError(f"{path}, {group}", "floating weights, and counters of whole numbers", _first(wrong))
    counters = {name: torch.zeros((), dtype=torch.int64) for name in own if name not in values}
    network.load_state_dict({name: found for name, (found, _) in pairs.items()} | counters, assign=True)


def _first(names: list[str], count: int = 3) -> str:
    return ascii(", ".join(names[:count]))[1:-1] + (f" and {len(names) - count} more" if len(names) > count else "")


def _instead_of(path: Path) -> str:
    """What is found where a checkpoint is not: its neighbours, since names of runs are easily mistaken."""
    if path.exists():
        return "a folder" if path.is_dir() else "a pipe, socket or device"
    others = sorted(other.name for other in path.parent.glob("*.pt") if not other.name.endswith(".last.pt"))
    return "no such file" + (
        f", but {', '.join(others[:5])}{' and more' if len(others) > 5 else ''} beside it" if others else ""
    )
