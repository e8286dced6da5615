"""Look at every sequence of a folder of one's own data: what is in it, what is odd, what to type next.

    python -m face4d check MyMeshes
    python -m face4d check MyLandmarks

Reads 24 frames of every mesh sequence and all of landmark files, writes nothing. Exit code 0 where nothing hinders the
steps, 2 where sequences cannot be used.
"""

from __future__ import annotations

from argparse import ArgumentParser
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

    from face4d.datasets.examine import UNUSABLE, compared, examine
    from face4d.datasets.layout import require_distinct
    from face4d.datasets.survey import Survey
    from face4d.errors import InputError
    from face4d.mesh.plausibility import grouped
    from face4d.runtime.parallel import cluster
    from face4d.runtime.progress import counted

    with cluster(workers=args.workers) as workers:
        found, remarks = examine(args.folder, workers=workers, quiet=args.quiet)
    unusable = any(remark.what.startswith(UNUSABLE) for remark in remarks)
    remarks += compared(found)
    hindered = None
    if found:
        survey = Survey.of(args.folder, found)
        print("\n".join(survey.describe()))
        try:
            require_distinct(args.folder, ((one.label, one.subject, one.path) for one in found), "file")
            survey.require_test_set()
        except InputError as error:
            hindered = error
    frames = sum(one.frames for one in found)
    print(f"looked at   {counted(len(found), 'sequence')} of {frames} frames")
    for what, count, named in grouped(remarks, _NAMED):
        print(f"{count:>4} x      {what}: {named}")
    if hindered is not None and not unusable:
        print(f"hinders     {hindered}")
    if not remarks and hindered is None:
        print("odd         nothing")
    if hindered is None and not unusable:
        cli.suggest_next(args, "-m", "face4d", "dataset", args.folder)
        return 0
    return 2
