"""Flags that steer a motion: controls of a generator that follows them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from face4d.commands import cli
from face4d.controls import GivenControls

FRAME = cli.number(0, cli.MOST_FRAMES)


def add_control_flags(parser: ArgumentParser) -> None:
    """Add ``--onset``, ``--apex``, ``--hold``, ``--offset``, ``--strength`` and ``--real-controls``."""
    group = parser.add_argument_group(
        "controls",
        "of a generator trained with --controls, in frames after the neutral one; what is left open is the mean of the "
        "label's training sequences, with --samples drawn from them",
    )
    group.add_argument("--onset", type=FRAME, metavar="FRAME", help="where the face leaves neutral")
    group.add_argument("--apex", type=FRAME, metavar="FRAME", help="where the expression is complete")
    group.add_argument("--hold", type=FRAME, metavar="N", help="frames it is held from there")
    group.add_argument("--offset", type=FRAME, metavar="FRAME", help="where the face is neutral again")
    group.add_argument(
        "--strength", type=cli.number(-10, 10), metavar="X", help="of the apex; 1 is the mean of the label"
    )
    group.add_argument(
        "--real-controls", action="store_true", help="each test sequence with the controls of the real one"
    )


def given_controls(args: Namespace) -> GivenControls:
    """The controls that the flags tell."""
    return GivenControls(args.onset, args.apex, args.hold, args.offset, args.strength)
