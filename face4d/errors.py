"""The one exception for bad input."""

from __future__ import annotations

from os import PathLike

_LONGEST = 300  # characters told of what was found: a file may hold a line of any length


class InputError(ValueError):
    """Something from outside is not what it has to be.

    Printed by the command line as one line: ``<path>: expected <expected>, found <found>``. What comes from files may hold anything, so the
    text is made printable: line ends become spaces, other control characters (a terminal would obey them) their escapes.

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

    def __reduce__(self):  # crosses process borders in parallel file work
        return type(self), (self.path, self.expected, self.found)


def printable(text: str) -> str:
    """One line that a terminal shows as it is."""
    if text.isprintable():
        return text
    text = " ".join(text.splitlines())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def shortened(text: str) -> str:
    """At most 300 characters of a text, its beginning."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
