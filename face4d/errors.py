"""The one exception for bad input."""

from __future__ import annotations

from os import PathLike


class InputError(ValueError):
    """Something from outside is not what it has to be.

    Printed by the command line as one line: ``<path>: expected <expected>, found <found>``.

    Args:
        path: the file, folder or flag at fault.
        expected: what belongs there.
        found: what is there instead.
    """

    def __init__(self, path: str | PathLike[str], expected: str, found: str) -> None:
        self.path = str(path)
        self.expected = expected
        self.found = found
        super().__init__(f"{self.path}: expected {expected}, found {found}")

    def __reduce__(self):  # crosses process borders in parallel file work
        return type(self), (self.path, self.expected, self.found)
