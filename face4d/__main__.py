"""The commands of the library: ``python -m face4d`` lists them, ``python -m face4d fit --help`` explains one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from face4d.commands import cli
from face4d.errors import InputError, nearest
from face4d.runtime.environment import typed_python

COMMANDS = (
    "benchmark",
    "check",
    "dataset",
    "demo",
    "fit",
    "flame-model",
    "landmarks",
    "point-embedding",
    "scan-to-mesh",
)
"""Each is a module of ``face4d.commands`` with ``main(argv)``, described by the first line of its docstring."""


def main(argv: Sequence[str] | None = None) -> int | None:
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {typed_python()} -m face4d COMMAND ... (COMMAND --help lists its flags)\n")
        for name in COMMANDS:
            print(f"  {name:<15} {(_module(name).__doc__ or '').partition(chr(10))[0]}")
        return None
    name, *rest = words
    if name not in COMMANDS:
        raise InputError("face4d", f"a command ({', '.join(COMMANDS)})", f"{name}{nearest(name, COMMANDS)}")
    sys.argv = [f"-m face4d {name}", *rest]  # how it is typed again
    return _module(name).main(rest)


def _module(name: str) -> ModuleType:
    return import_module(f"face4d.commands.{name.replace('-', '_')}")


if __name__ == "__main__":
    cli.run(main)
