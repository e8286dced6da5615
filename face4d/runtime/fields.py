"""What a record from a file must hold, written down field by field; JSON files checked by it.

A description is a function of a value and the place it stands at (``config.lr``): it returns the value, or raises
:class:`FieldError`. The functions below make descriptions; :func:`check` applies one and turns what is wrong into the
one line that names file and field. Configurations are dataclasses whose annotations are such descriptions
(``Annotated[int, integer(1, 64)]``), so that flags and files meet the same ranges.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from face4d.errors import InputError
from face4d.runtime.files import is_name, read_bytes

Check = Callable[[Any, str], Any]
Fields = Mapping[str, Check]

MOST_TEXT = 4096  # characters, as of a path
MOST_DEPTH = 32  # containers in containers
_LARGEST = 2**63  # of integers


class FieldError(Exception):
    """A field that is not what it has to be.

    Args:
        place: of the field in its record.
        expected: what belongs there.
        found: what is there.
    """

    def __init__(self, place: str, expected: str, found: str) -> None:
        super().__init__(place, expected, found)
        self.place, self.expected, self.found = place, expected, found


def check(path: str | Path, value: Any, description: Check, place: str = "") -> Any:
    """A value from a file, once it is what the description says.

    Args:
        path: the file, for the error.
        place: of the value in the file; "" = all of it.

    Raises:
        InputError: names the file and the first field that is wrong.
    """
    try:
        return description(value, place)
    except FieldError as error:
        raise InputError(
            path, f"{error.place} to be {error.expected}" if error.place else error.expected, error.found
        ) from None


def shown(value: Any) -> str:
    """A value in a few words, for errors."""
    if value is None or isinstance(value, (bool, float)):
        return str(value).lower() if isinstance(value, bool) else "none" if value is None else f"{value:g}"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        return ascii(value[:60])
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "a dictionary"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


@dataclass(frozen=True)
class Integer:
    """A whole number in ``low..high``."""

    low: int
    high: int

    def __call__(self, value: Any, place: str) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            expected = f"{self.low}" if self.low == self.high else f"an integer from {self.low} to {self.high}"
            raise FieldError(place, expected, shown(value))
        return value


def integer(low: int, high: int) -> Integer:
    """A whole number in ``low..high``."""
    return Integer(low, high)


@dataclass(frozen=True)
class Number:
    """A number in ``low..high``, an integer too; see :func:`number`."""

    low: float
    high: float
    above: bool
    finite: bool

    @property
    def expected(self) -> str:
        """What belongs there, in words."""
        bounds = [f"{'above' if self.above else 'at least'} {self.low:g}"] * (self.low > -math.inf)
        bounds += [f"at most {self.high:g}"] * (self.high < math.inf)
        return ("a finite number" if self.finite else "a number") + (f", {' and '.join(bounds)}" if bounds else "")

    def __call__(self, value: Any, place: str) -> float:
        if type(value) not in (int, float) or (type(value) is int and abs(value) >= _LARGEST):
            raise FieldError(place, self.expected, shown(value))
        inside = self.low <= value <= self.high and not (self.above and value == self.low)
        if self.finite and not (math.isfinite(value) and inside):
            raise FieldError(place, self.expected, shown(value))
        return value


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False, finite: bool = True) -> Number:
    """A number in ``low..high``, an integer too.

    Args:
        above: ``low`` itself is not among them.
        finite: no infinity, no NaN.
    """
    return Number(low, high, above, finite)


def flag(value: Any, place: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise FieldError(place, "true or false", shown(value))
    return value


def text(value: Any, place: str) -> str:
    """One line of text, a path for instance (whose bytes may be no text: they are surrogates then)."""
    if (
        not isinstance(value, str)
        or len(value) > MOST_TEXT
        or not all(c.isprintable() or "\udc80" <= c <= "\udcff" for c in value)
    ):
        raise FieldError(place, f"text of at most {MOST_TEXT} printable characters", shown(value))
    return value


def name(value: Any, place: str) -> str:
    """A name that may become part of a path (:mod:`face4d.runtime.files`)."""
    if not is_name(value):
        raise FieldError(place, "a name of letters, digits, - _ . and spaces", shown(value))
    return value


def stem(value: Any, place: str) -> str:
    """The name of a file before its suffix, as other programs may have given it: not a path, not hidden."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= 200
        or not value.isprintable()
        or value[0] == "."
        or set(value) & set('/\\:*?"<>|')
    ):
        raise FieldError(place, "a file's name before its suffix", shown(value))
    return value


@dataclass(frozen=True)
class OneOf:
    """One of a few values, of their own types."""

    values: tuple[Any, ...]

    def __call__(self, value: Any, place: str) -> Any:
        if not any(type(value) is type(known) and value == known for known in self.values):
            raise FieldError(place, " or ".join(str(known) for known in self.values), shown(value))
        return value


def one_of(*values: Any) -> OneOf:
    """One of a few values."""
    return OneOf(values)


@dataclass(frozen=True)
class Optional:
    """What a description says, or none; a field that may be absent."""

    description: Check

    def __call__(self, value: Any, place: str) -> Any:
        return None if value is None else self.description(value, place)


def optional(description: Check) -> Check:
    """What the description says, or none; a field that may be absent."""
    return Optional(description)


def list_of(description: Check, low: int = 0, high: int = 10**6, *, unique: bool = False) -> Check:
    """A list of ``low..high`` entries, ``unique`` ones all different."""

    def verify(value: Any, place: str) -> list[Any]:
        if not isinstance(value, (list, tuple)) or not low <= len(value) <= high:
            raise FieldError(place, f"a list of {low}" if low == high else f"a list of {low} to {high}", shown(value))
        entries = [description(entry, f"{place}[{number}]") for number, entry in enumerate(value)]
        if unique and len(set(entries)) < len(entries):
            raise FieldError(
                place, "a list without repetitions", f"{shown(next(e for e in entries if entries.count(e) > 1))} twice"
            )
        return entries

    return verify


def mapping(description: Check, most: int = 10**6) -> Check:
    """A dictionary with text as keys and such values."""

    def verify(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > most:
            raise FieldError(place, "a dictionary", shown(value))
        for key in value:
            text(key, f"a key of {place}")
        return {key: description(entry, f"{place}.{key}" if place else key) for key, entry in value.items()}

    return verify


def record(known: Fields, what: str = "a dictionary", others: Check | None = None) -> Check:
    """A dictionary with these fields; those that are :func:`optional` may be absent.

    Args:
        what: it is, for the error.
        others: description of all further fields; default: :func:`plain`.
    """

    def verify(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise FieldError(place, what, shown(value))
        prefix = f"{place}." if place else ""
        found = {}
        for key, description in known.items():
            if key in value:
                found[key] = description(value[key], f"{prefix}{key}")
            elif not isinstance(description, Optional):
                raise FieldError(f"{prefix}{key}", "there", "nothing of that name")
        for key, entry in value.items():
            if key not in known:
                text(key, f"a key of {place}" if place else "a key")
                found[key] = (others or plain)(entry, f"{prefix}{key}")
        return found

    return verify


def plain(value: Any, place: str, depth: int = 0) -> Any:
    """Numbers, text, true, false, none, arrays, and lists and dictionaries of such."""
    if depth > MOST_DEPTH:
        raise FieldError(place, f"nested at most {MOST_DEPTH} times", "more")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if type(key) not in (str, int):
                raise FieldError(place, "a dictionary with keys of text", shown(key))
            plain(entry, place or str(key), depth + 1)
        return value
    if isinstance(value, (list, tuple)):
        for entry in value:
            plain(entry, place, depth + 1)
        return value
    if value is None or type(value) in (bool, float, str) or (type(value) is int and abs(value) < _LARGEST):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return value
    raise FieldError(place, "numbers, text, lists and dictionaries", shown(value))


def unknown(value: Any, place: str) -> Any:
    """In place of fields that this version does not know."""
    raise FieldError(place, "no field of this name", "one made by a later version of face4d, which knows it")


@cache
def described(config: type) -> dict[str, Check]:
    """Descriptions of a dataclass' fields, from its annotations: ``bool``, or ``Annotated`` with a description."""
    hints = get_type_hints(config, include_extras=True)
    checks: dict[str, Check] = {}
    for name in (key.name for key in fields(config)):
        described_by = [part for part in getattr(hints[name], "__metadata__", ()) if callable(part)]
        if hints[name] is bool:
            checks[name] = flag
        elif described_by:
            checks[name] = described_by[0]
    missing = [key.name for key in fields(config) if key.name not in checks]
    if missing:
        raise TypeError(f"{config.__name__}: no description of {', '.join(missing)}")
    return checks


def configuration(kind: type | Callable[[Mapping[str, Any]], type]) -> Check:
    """A dictionary of the fields of a dataclass, which is built of it and so checks how they fit each other.

    Fields that are absent have their defaults: earlier versions did not know them. Fields whose metadata names a
    ``former`` name are read under that, too. Fields that the dataclass does not know are refused.

    Args:
        kind: the dataclass, or a function that says by the dictionary which of several it is.
    """

    def verify(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise FieldError(place, "a dictionary of settings", shown(value))
        config = kind if isinstance(kind, type) else kind(value)
        checks = described(config)
        former = {key.metadata["former"]: key.name for key in fields(config) if key.metadata.get("former")}
        value = {former.get(key, key): entry for key, entry in value.items()}
        for key in value:
            if key not in checks:
                text(key, f"a key of {place}")
                unknown(value[key], f"{place}.{key}")
        found = {key: checks[key](entry, f"{place}.{key}") for key, entry in value.items()}
        missing = [key.name for key in fields(config) if key.name not in found and key.default is MISSING]
        if missing:
            raise FieldError(f"{place}.{missing[0]}", "there", "nothing of that name")
        try:
            return asdict(config(**found))
        except InputError as error:
            raise FieldError(
                place, f"settings that fit each other ({error.path} {error.expected})", error.found
            ) from None

    return verify


def check_config(config: Any) -> None:
    """Check the fields of a configuration by their annotations.

    Raises:
        InputError: names the flag of the first field that is wrong.
    """
    kind: type = type(config)
    for key, description in described(kind).items():
        try:
            description(getattr(config, key), "")
        except FieldError as error:
            raise InputError(f"--{key.replace('_', '-')}", error.expected, error.found) from None


def score(value: Any, place: str) -> Any:
    """A value in a table of metrics: a number, perhaps not finite, text, true, false, or none."""
    if value is None or type(value) is bool:
        return value
    return text(value, place) if isinstance(value, str) else number(finite=False)(value, place)


LABELS = list_of(name, 1, 1000, unique=True)
FRAMES = integer(2, 10_000)  # of a sequence, the neutral one included
NAMES = list_of(name, 0, 10**6)


_SETS = ("train", "validation", "test")
_OF_A_RUN = ("epoch", "epochs_trained", "seconds", "selected_by", "strength")  # metrics of no set


def current_tag(tag: str) -> str:
    """A curve's name as ``<set>/<key>``; that of an earlier version (``loss/train``, ``loss/critic``) as it is now.

    >>> current_tag("accuracy/test"), current_tag("loss/critic"), current_tag("test/mm")
    ('test/accuracy', 'train/critic_loss', 'test/mm')
    """
    first, slash, second = tag.partition("/")
    if not slash or first in _SETS:
        return tag
    return f"{second}/{first}" if second in _SETS else f"train/{second}_{first}"


def metrics(value: Any, place: str) -> dict[str, Any]:
    """What metrics.json holds: scores by ``<set>/<key>``, and what belongs to no set; names of earlier versions become
    these.
    """
    found = mapping(score)(value, place)
    usual = "train" if found.pop("scored_on", None) == "training" else "test"
    named = {}
    for key, entry in found.items():
        first, underscore, rest = key.partition("_")
        if "/" in key or key in _OF_A_RUN:
            named[key] = entry
        elif underscore and first in _SETS:
            named[f"{first}/{rest}"] = entry
        else:
            named[f"{usual}/{key}"] = entry
    return named


METRICS = metrics


MOST_BYTES = 4 << 20  # of the records of this program the largest lists the names of some ten thousand samples
_MOST_DIGITS = 19  # of an integer


class _Refused(ValueError):
    """What is wrong with a file, for people."""


def read_json(path: str | Path, description: Check = plain, expected: str = "a JSON file") -> Any:
    """Read a JSON file, UTF-8 with or without a byte order mark.

    NaN and Infinity, which Python writes and JSON does not know, are numbers that no field takes unless its description
    does.

    Args:
        description: what it must hold (:mod:`face4d.runtime.fields`).
        expected: what the file should be, for errors.

    Raises:
        InputError: missing, larger than 4 MB, not JSON, a key twice, an integer of 20 digits, or a field that is not
            what it must be.
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
        raise _Refused(f"the key {next(key for key in found if keys.count(key) > 1)[:60]!a} twice")
    return found


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise _Refused(f"an integer of {len(text.lstrip('-'))} digits")
    return int(text)
