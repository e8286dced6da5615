"""Look at every sequence of a folder of one's own data: what is in it, what is odd, what to type next.

    python -m face4d check MyMeshes
    python -m face4d check MyLandmarks

Reads 24 frames of every mesh sequence and all of landmark files, writes nothing. Exit code 0 where nothing hinders the
steps, 2 where sequences cannot be used.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli

_NAMED = 5  # sequences of a kind that are named


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="mesh sequences or landmark files")
    cli.add_run_flags(parser, "workers", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)

    from face4d.datasets.examine import UNUSABLE, compared, described, examine, kind_of
    from face4d.datasets.survey import survey
    from face4d.errors import InputError
    from face4d.runtime.parallel import cluster
    from face4d.runtime.progress import counted

    suffix = kind_of(args.folder)
    with cluster(workers=args.workers) as workers:
        found, remarks = examine(args.folder, suffix, workers=workers, quiet=args.quiet)
    unusable = any(remark.what.startswith(UNUSABLE) for remark in remarks)
    remarks += compared(found)
    hindered = None
    try:
        lines = list(survey(args.folder).describe())
    except InputError as error:  # of what is left out here already, and what no step could do with the rest
        hindered, lines = error, list(described(args.folder, found))
    print("\n".join(lines))
    frames = sum(one.frames for one in found)
    print(f"looked at   {counted(len(found), 'sequence')} of {frames} frames")
    places: dict[str, list[str]] = defaultdict(list)
    for remark in remarks:
        places[remark.what].append(remark.where)
    for what, names in places.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        print(f"{len(names):>4} x      {what}: {', '.join(names[:_NAMED])}{more}")
    if hindered is not None and not unusable:
        print(f"hinders     {hindered}")
    if not remarks and hindered is None:
        print("odd         nothing")
    if hindered is None and not unusable:
        cli.suggest_next(args, "-m", "face4d", "dataset", args.folder)
        return 0
    return 2
