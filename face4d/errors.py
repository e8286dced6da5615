"""The one exception for bad input, and the words of its line."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

_LONGEST = 300  # characters shown of what was found: a file may hold a line of any length


class InputError(ValueError):
    """Something from outside is not what it has to be.

    Printed by the command line as one line: ``<path>: expected <expected>, found <found>``. What comes from files may
    hold anything, so the text is made printable: line ends become spaces, other control characters (a terminal would
    obey them) their escapes.

    Args:
        path: the file, folder or flag at fault.
        expected: what belongs there.
        found: what is there instead; cut where it is very long.
    """

    def __init__(self, path: str | PathLike[str], expected: str, found: str) -> None:
        self.path = str(path)
        self.expected = expected
        self.found = found
        super().__init__(printable(f"{self.path}: expected {shortened(expected)}, found {shortened(found)}"))

    # crosses process borders in parallel file work
    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.path, self.expected, self.found)


def reason(error: BaseException) -> str:
    """What an exception of another package says, or its type where it says nothing (exceptions are truthy, texts are
    not).
    """
    return str(error) or type(error).__name__


def printable(text: str) -> str:
    """One line that a terminal shows as it is."""
    if text.isprintable():
        return text
    text = " ".join(text.splitlines())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def shortened(text: str) -> str:
    """At most 300 characters of a text, its beginning and its end."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} ... {text[-95:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; the nearest is <one of known>"`` where a name looks like a slip for it or its beginning, else nothing.

    >>> nearest("hapy", ["Happy", "Rage"])
    '; the nearest is Happy'
    """
    import difflib  # two megabytes that only a slip needs

    if not name.strip():
        return ""
    spelled = {_plain(other): other for other in known}
    found = difflib.get_close_matches(_plain(name), spelled, n=1) or [
        other for other in spelled if other.startswith(_plain(name))
    ]
    return f"; the nearest is {spelled[found[0]]}" if found else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-")
