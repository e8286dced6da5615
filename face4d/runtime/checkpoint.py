"""Checkpoints: plain dictionaries of tensors, numbers, strings and containers; never pickled objects."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from face4d.errors import InputError
from face4d.runtime.atomic import replacing

FORMAT_VERSION = 1


def save_checkpoint(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Save ``content`` under ``path``, whole or not at all.

    Args:
        kind: which program part reads it back, e.g. ``generator`` or ``classifier``.
        content: ``config, labels, model`` and, to continue training, ``optimizer, epoch, rng, metrics`` ...; plain data only.
    """
    record = {"format": "face4d", "format_version": FORMAT_VERSION, "kind": kind, **content}
    with replacing(path) as temporary, open(temporary, "wb") as file:  # a path would be stored inside, and no two files be equal
        try:
            torch.save(record, file)
        except RuntimeError as error:  # torch's own complaint about a write that failed hides why
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load_checkpoint(path: str | Path, kind: str, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load what :func:`save_checkpoint` wrote, with ``weights_only=True``.

    Raises:
        InputError: missing, damaged, from another program, of another kind or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, f"a {kind} checkpoint", _instead_of(path))
    record = read_torch_file(path, f"a {kind} checkpoint of face4d", device=device)
    if not isinstance(record, dict) or record.get("format") != "face4d":
        raise InputError(path, f"a {kind} checkpoint of face4d", "a file of another program")
    if record.get("kind") != kind:
        raise InputError(path, f"a {kind} checkpoint", f"a {record.get('kind')} checkpoint")
    if record["format_version"] > FORMAT_VERSION:
        raise InputError(path, f"checkpoint format {FORMAT_VERSION} or older", f"format {record['format_version']}")
    return record


def read_torch_file(path: str | Path, expected: str, *, device: torch.device | str = "cpu") -> Any:
    """What :func:`torch.save` wrote, one's own or others', with ``weights_only=True``: tensors and plain data, or nothing.

    Args:
        expected: what the file should be, for the error.

    Raises:
        InputError: unreadable, or with anything else in it.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(path, expected, f"an unreadable file ({reason})") from None


def _instead_of(path: Path) -> str:
    """What is found where a checkpoint is not: its neighbours, since names of runs are easily mistaken."""
    if path.exists():
        return "a folder"
    others = sorted(other.name for other in path.parent.glob("*.pt") if not other.name.endswith(".last.pt"))
    return "no such file" + (f", but {', '.join(others[:5])}{' and more' if len(others) > 5 else ''} beside it" if others else "")
