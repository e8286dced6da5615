"""JSON from files: bounded, and checked field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from face4d.errors import InputError
from face4d.runtime.fields import MOST_DEPTH, Check, check, plain
from face4d.runtime.files import read_bytes

MOST_BYTES = 4 << 20  # of the records of this program the largest lists the names of some ten thousand samples
_MOST_DIGITS = 19  # of an integer


class _Refused(ValueError):
    """What is wrong with a file, for people."""


def read_json(path: str | Path, description: Check = plain, expected: str = "a JSON file") -> Any:
    """Read a JSON file, UTF-8 with or without a byte order mark.

    NaN and Infinity, which Python writes and JSON does not know, are numbers that no field takes unless its description does.

    Args:
        description: what it must hold (:mod:`face4d.runtime.fields`).
        expected: what the file should be, for errors.

    Raises:
        InputError: missing, larger than 4 MB, not JSON, a key twice, an integer of 20 digits, or a field that is not what it must be.
    """
    data = read_bytes(path, expected, most=MOST_BYTES)
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_repetitions, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise InputError(path, f"{expected}, in UTF-8", f"byte {error.start} that is none") from None
    except json.JSONDecodeError as error:
        raise InputError(path, expected, f"{error.msg} in line {error.lineno}, column {error.colno}") from None
    except _Refused as error:
        raise InputError(path, expected, str(error)) from None
    except RecursionError:
        raise InputError(path, f"{expected}, nested at most {MOST_DEPTH} times", "more") from None
    return check(path, content, description)


def _without_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Refused(f"the key {ascii(next(key for key in found if keys.count(key) > 1)[:60])} twice")
    return found


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise _Refused(f"an integer of {len(text.lstrip('-'))} digits")
    return int(text)
