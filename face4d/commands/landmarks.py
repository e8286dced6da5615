"""Landmarks and dense motion for a head of one's own topology, from a registered copy of another.

    python -m face4d landmarks --registered registered_flame_copy.ply --target my_head.obj --output my_head.npz

The copy is a mesh of the landmarks' topology (FLAME) brought to the head's shape and place by a registration tool, in
metres. test.py --target-embedding takes the file that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--registered",
        type=Path,
        required=True,
        metavar="FILE",
        help="mesh of the landmarks' topology aligned to the head",
    )
    parser.add_argument("--target", type=Path, required=True, metavar="FILE", help="the head (PLY, OBJ), metres")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="npz to write, for test.py --target-embedding"
    )
    parser.add_argument(
        "--flame", type=Path, default=Path("models/flame"), metavar="DIR", help="landmark files of the copy's topology"
    )
    parser.add_argument(
        "--landmark-embedding", type=Path, metavar="FILE", help="npz of the copy's topology, in place of --flame"
    )
    cli.add_run_flags(parser, "overwrite")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    cli.refuse_overwrite(args.output, args.overwrite)

    import numpy as np

    from face4d.correspondence import check_copy, fit_embedding, save_correspondence
    from face4d.landmarks import extract, load_embedding, load_flame_embedding
    from face4d.mesh.sequence import read_mesh

    own = args.landmark_embedding
    source = load_embedding(own) if own else load_flame_embedding(args.flame)
    registered, registered_faces = read_mesh(args.registered)
    check_copy(args.registered, registered, registered_faces, source)
    target, target_faces = read_mesh(args.target)
    fitted = fit_embedding(source, registered, target, target_faces, name=args.target)
    there, here = extract(source, registered.astype(np.float64)), extract(fitted.embedding, target.astype(np.float64))
    off = 1e3 * np.linalg.norm(here - there, axis=1)
    print(
        f"{100 * fitted.covered:.1f} % of {len(target)} vertices lie on the copy; "
        f"landmarks {off.mean():.2f} mm off, at most {off.max():.2f} mm"
    )
    save_correspondence(args.output, fitted)
    cli.report_written([args.output])
