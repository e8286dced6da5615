"""Flags that steer a motion: controls of a generator that follows them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from face4d.commands import cli
from face4d.controls import GivenControls

FRAME = cli.number(0, cli.MOST_FRAMES)


def add_control_flags(parser: ArgumentParser) -> None:
    """Add ``--onset``, ``--apex``, ``--hold``, ``--offset``, ``--strength``, ``--real-controls`` and
    ``--timeline``.
    """
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
    group.add_argument(
        "--timeline",
        type=Path,
        metavar="CSV",
        help="a scene of several expressions in place of --label: label, onset, apex, release, offset, strength, "
        "region in rows (docs/controls.md); --frames: its length (default: the last offset)",
    )


def check_timeline_flags(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse what a timeline says itself."""
    if args.timeline and (args.label or args.real_controls or given_controls(args) != GivenControls()):
        parser.error("--timeline says which expressions, when and how strong: give no --label and no other controls")
    if args.timeline and args.samples > 1:
        parser.error("--samples: expected 1 with --timeline, which leaves nothing open to draw, found more")


def given_controls(args: Namespace) -> GivenControls:
    """The controls that the flags tell."""
    return GivenControls(args.onset, args.apex, args.hold, args.offset, args.strength)
