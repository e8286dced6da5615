"""Flags that steer a motion: controls of a generator that follows them, and what a generator that fills in keeps."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from face4d.commands import cli
from face4d.constants import LANDMARK_GROUPS, NUM_LANDMARKS
from face4d.controls import MOST_STRENGTH, Controls, GivenControls, find_controls, label_directions
from face4d.errors import InputError
from face4d.runtime.arrays import load_numbers
from face4d.runtime.incremental import file_digest

if TYPE_CHECKING:  # it loads torch, and parsing flags must not
    from face4d.datasets.landmark_set import LandmarkSplit

FRAME = cli.number(0, cli.MOST_FRAMES)


def add_control_flags(parser: ArgumentParser) -> None:
    """Add ``--onset``, ``--apex``, ``--hold``, ``--offset``, ``--strength``, ``--real-controls`` and
    ``--timeline``.
    """
    group = parser.add_argument_group(
        "controls",
        "of a generator of main.py --controls or --model flow, in frames after the neutral one; what is left open is "
        "the mean of the label's training sequences, with --samples drawn from them",
    )
    group.add_argument("--onset", type=FRAME, metavar="FRAME", help="where the face leaves neutral")
    group.add_argument("--apex", type=FRAME, metavar="FRAME", help="where the expression is complete")
    group.add_argument("--hold", type=FRAME, metavar="N", help="frames it is held from there")
    group.add_argument("--offset", type=FRAME, metavar="FRAME", help="where the face is neutral again")
    group.add_argument(
        "--strength",
        type=cli.number(-MOST_STRENGTH, MOST_STRENGTH),
        metavar="X",
        help="of the apex; 1 is the mean of the label",
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


def check_control_flags(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse what real controls and a timeline say themselves."""
    own = args.actor or args.photo or args.target
    if args.real_controls and (own or given_controls(args) != GivenControls() or args.frames):
        parser.error("--real-controls are those of the test sequences: give no face, no other controls, no --frames")
    if args.timeline and (args.label or args.real_controls or given_controls(args) != GivenControls()):
        parser.error("--timeline says which expressions, when and how strong: give no --label and no other controls")


def add_fill_flags(parser: ArgumentParser) -> None:
    """Add ``--keep``, ``--mask`` and ``--guidance``."""
    group = parser.add_argument_group("filling in", "by a generator of main.py --model flow, docs/flow.md")
    group.add_argument(
        "--keep",
        metavar="FILE",
        help="landmark sequence of any face, npy (frames, 68, 3) in metres, frame 0 neutral, whose motion is kept "
        "where --mask says, the rest generated; real = of each test sequence its own",
    )
    group.add_argument(
        "--mask",
        metavar="WHAT",
        help=f"frames, and groups of landmarks ({', '.join(LANDMARK_GROUPS)}), with commas between: 0,20,40-60 or "
        "mouth or jaw,mouth,0-30; or an npy file (frames, 68) of what is kept",
    )
    group.add_argument(
        "--guidance",
        type=cli.number(0, 10),
        default=1.0,
        metavar="X",
        help="how much more than learnt a flow follows label and controls (default: 1, as learnt)",
    )


def check_fill_flags(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse what does not go with filling in."""
    if (args.keep is None) != (args.mask is None):
        parser.error("--keep and --mask belong together")
    if args.keep and (args.intensity != 1 or args.timeline or args.real_controls):
        parser.error("--keep: what is kept is not scaled or timed: give no --intensity, --timeline or --real-controls")
    if args.keep and (args.keep == "real") != (args.label is None):
        parser.error("--keep real is for the test set, --keep FILE for --label on a face of one's own")
    if args.keep and args.frames is not None:
        parser.error("--keep says how many frames: give no --frames")


def kept_mask(text: str, frames: int) -> np.ndarray:
    """(frames, 68) bool, what ``--mask`` says is kept of a sequence.

    Raises:
        InputError: neither frames and groups of landmarks nor a file of that shape.
    """
    if _names_file(text):
        expected = f"a ({frames}, {NUM_LANDMARKS}) array of zeros and ones"
        mask = load_numbers(text, expected, truth=True)
        if mask.shape != (frames, NUM_LANDMARKS):
            raise InputError(text, expected, f"shape {mask.shape}")
        if not np.isin(mask, (0, 1)).all():
            raise InputError(text, expected, "other numbers")
        mask = mask.astype(bool)
    else:
        when, where = np.zeros(frames, bool), np.zeros(NUM_LANDMARKS, bool)
        for word in _words(text):
            span = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", word, re.ASCII)
            first, last = (int(span[1]), int(span[2] or span[1])) if span else (0, -1)
            if word in LANDMARK_GROUPS:
                where[LANDMARK_GROUPS[word]] = True
            elif first <= last < frames:
                when[first : last + 1] = True
            else:
                groups = ", ".join(LANDMARK_GROUPS)
                raise InputError("--mask", f"frames 0 to {frames - 1} or groups among {groups}", word or "nothing")
        mask = (when | ~when.any())[:, None] & (where | ~where.any())
    if not mask.any():
        raise InputError("--mask", "something that is kept", "nothing")
    return mask


def _names_file(mask: str) -> bool:
    return mask.lower().endswith(".npy")


def _words(mask: str) -> list[str]:
    return [word.strip().lower() for word in mask.split(",")]


def kept_motion(args: Namespace) -> tuple[np.ndarray, np.ndarray] | None:
    """Displacements (frames, 68, 3) in metres of the sequence that ``--keep`` names, and (frames, 68) what of it is
    kept; None without it.
    """
    if args.keep is None:
        return None
    from face4d.datasets.landmark_set import read_landmarks

    landmarks = read_landmarks(args.keep)
    if len(landmarks) - 1 > cli.MOST_FRAMES:
        raise InputError(args.keep, f"at most {cli.MOST_FRAMES} frames after the neutral one", f"{len(landmarks) - 1}")
    return landmarks - landmarks[0], kept_mask(args.mask, len(landmarks))


def given_controls(args: Namespace) -> GivenControls:
    """The controls that flags give."""
    return GivenControls(args.onset, args.apex, args.hold, args.offset, args.strength)


def real_controls(split: LandmarkSplit) -> Controls:
    """Controls of the test sequences, by the directions of the training sequences."""
    from face4d.datasets.landmark_set import stack

    moved, labels = stack(split.test, split.labels)
    directions = label_directions(*stack(split.train, split.labels), len(split.labels))
    return find_controls(moved, directions[labels])


def steering(args: Namespace) -> dict[str, Any]:
    """What these flags say, for the record of how a sequence was made: nothing of those not given."""
    controls = given_controls(args)
    said: dict[str, Any] = {} if controls == GivenControls() else {"controls": asdict(controls)}
    if args.real_controls:
        said["controls"] = "real"
    if args.timeline:
        said["timeline"] = file_digest(args.timeline)
    if args.guidance != 1:
        said["guidance"] = args.guidance
    if args.keep:
        mask = file_digest(Path(args.mask)) if _names_file(args.mask) else ",".join(_words(args.mask))
        said |= {"keep": args.keep if args.keep == "real" else file_digest(Path(args.keep)), "mask": mask}
    return said
