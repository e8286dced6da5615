"""Names that come from files (labels, subjects, runs, data sets) and become parts of paths."""

from __future__ import annotations

from pathlib import Path

from face4d.errors import InputError

MAX_NAME = 100  # characters; with a second name and a suffix a file name stays below the 255 bytes that file systems take
_MARKS = frozenset("-_. ")


def is_name(text: object) -> bool:
    """Whether a value is a name: letters and digits of any script, ``-``, ``_``, ``.`` and spaces; not blank, no leading dot, no space at an end."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= MAX_NAME
        and text == text.strip()
        and not text.startswith(".")
        and all(letter.isalnum() or letter in _MARKS for letter in text)
    )


def require_name(path: str | Path, what: str, text: object) -> str:
    """The name itself.

    Args:
        path: file or flag that the name is from, for the error.
        what: what it names (``a label``).

    Raises:
        InputError: not a name as :func:`is_name` has it: it could lead out of the folder it belongs in, or be no file name at all.
    """
    if not is_name(text):
        raise InputError(path, f"{what} of letters, digits, - _ . and spaces", ascii(text)[:60])
    return text
