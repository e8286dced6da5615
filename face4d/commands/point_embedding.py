"""Measure where the 468 points of the landmark network lie on heads of one topology.

Fits to photos and scans use them.

    python -m face4d point-embedding heads/ heads_mouth_open/ --flame models/flame --output points_flame.npz

Heads are drawn from 27 sides in random colours and light. Some should open the mouth: on closed ones points of both
lips lie in one place. FLAME's is in the package.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli

_LIPS, _OPEN = (62, 66), 0.005  # middles of the inner lips among the 68; metres

log = logging.getLogger(__name__)


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "heads",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="heads of one topology (PLY, OBJ), metres, y up, looking along z, the first without expression; or "
        "folders with PLY files",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="npz to write")
    parser.add_argument(
        "--flame", type=Path, default=Path("models/flame"), metavar="DIR", help="landmark files of the topology"
    )
    parser.add_argument("--landmark-embedding", type=Path, metavar="FILE", help="npz of them, in place of --flame")
    cli.add_run_flags(parser, "seed", "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    cli.refuse_overwrite(args.output, args.overwrite)

    import numpy as np

    from face4d.errors import InputError
    from face4d.landmarks import load_embedding, load_flame_embedding, read_head
    from face4d.photos.face_networks import INSTALL, installed
    from face4d.runtime.progress import track
    from face4d.synthetic.head_views import PITCHES, YAWS, head_views
    from face4d.synthetic.point_embedding import errors_by_yaw, measure_embedding, save_point_embedding

    if not installed():
        raise InputError("point-embedding", f"the networks that find faces: {INSTALL}", "none")
    files = [file for path in args.heads for file in (sorted(path.glob("*.ply")) if path.is_dir() else [path])]
    if len(files) < 2:
        raise InputError(args.heads[0], "two heads or more (PLY files in a folder)", str(len(files)))
    own = args.landmark_embedding
    landmarks = load_embedding(own) if own else load_flame_embedding(args.flame)
    heads = [read_head(file, landmarks) for file in files]
    sides = len(YAWS) * len(PITCHES)
    if max(float(marks[_LIPS[0], 1] - marks[_LIPS[1], 1]) for _, marks in heads) < _OPEN:
        log.warning("note: no head opens its mouth; some points of one lip may be put on the other")
    drawn = head_views(heads, landmarks.faces, args.seed, len(heads) * heads[:1])
    seen = list(track("looking", drawn, total=len(heads) * sides, unit="picture", quiet=args.quiet))
    views = [view for view in seen if view is not None]
    if {view.yaw for view in views} != set(YAWS):
        raise InputError(
            args.heads[0], "heads that the network takes for faces", f"{len(views)} of {len(seen)} pictures"
        )
    embedding, left_out = measure_embedding(views, np.asarray(landmarks.faces))
    save_point_embedding(args.output, embedding)
    print(f"{len(heads)} heads, {len(views)} of {len(seen)} pictures in which the network sees a face")
    print("yaw, median and 90th percentile of the distance of points from the embedding of other heads (mm):")
    for yaw, median, most in errors_by_yaw(embedding, views, left_out):
        print(f"  {yaw:4.0f}  {median:5.2f}  {most:5.2f}")
    cli.report_written([args.output])
