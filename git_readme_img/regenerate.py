"""Make the pictures of the README again, from the demo's own results.

    bash run.sh demo
    .venv/bin/python git_readme_img/regenerate.py

Writes into git_readme_img/: face4d.gif (above: a test subject's real motion, unseen in training; below: the landmarks
generated from that subject's first frame and the label) and expressions.png (all labels of both data sets on the demo
head).
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli

if TYPE_CHECKING:
    from face4d.demo.head import DemoHead

SUBJECT_NUMBER, LABELS = 4, ("high-smile", "mouth-extreme", "mouth-side", "eyebrow", "bareteeth")
SIZE, YAW = 240, 16


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--demo", type=Path, default=Path("demo"), metavar="DIR", help="what bash run.sh demo made")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, metavar="DIR", help="where the pictures go"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.constants import COMA_LABELS, FLORENCE_LABELS
    from face4d.demo.head import demo_head
    from face4d.errors import InputError

    generated = args.demo / "Generated_Animation" / "demo"
    if not generated.is_dir():
        raise InputError(generated, "the demo's results (bash run.sh demo)", "no such folder")
    args.output.mkdir(parents=True, exist_ok=True)
    head = demo_head(1)
    written = [
        moving_faces(head, args.demo, args.output / "face4d.gif"),
        expressions(head, (*COMA_LABELS, *FLORENCE_LABELS), args.output / "expressions.png"),
    ]
    cli.report_written(written)


def moving_faces(head: DemoHead, demo: Path, path: Path) -> Path:
    """Real motion as a mesh above the landmarks generated for the same subject and label, all faces in one scale."""
    import numpy as np

    from face4d.datasets.layout import sequence_name
    from face4d.demo.head import vertex_colors
    from face4d.demo.write import coma_length, demo_sequence, demo_subjects
    from face4d.render.clay import Framing, render_sequence
    from face4d.render.landmarks import PALETTE, Tile, contact_sheet
    from face4d.render.media import write_gif
    from face4d.resample import resample_linear

    close_up = Framing((0.0, 0.0), 0.115)  # metres
    subject = demo_subjects(SUBJECT_NUMBER + 1)[-1]
    tiles, meshes = [], []
    for label in LABELS:
        generated = np.load(
            demo / "Generated_Animation" / "demo" / f"{subject}_{label}" / f"{sequence_name(label, subject)}.npy"
        )
        motion = demo_sequence(head, 27, SUBJECT_NUMBER, label, coma_length(27, SUBJECT_NUMBER, label))
        motion = resample_linear(motion, len(generated))
        meshes.append(
            render_sequence(motion, head.faces, size=SIZE, colors=vertex_colors(head), yaw=YAW, framing=close_up)
        )
        tiles.append(Tile(label, generated, None))
    below = np.asarray(PALETTE)[contact_sheet(tiles, columns=len(tiles), height=SIZE)]  # (T, H, W, 3)
    above = np.full((len(below), SIZE, below.shape[2], 3), 255, dtype=np.uint8)
    column = below.shape[2] // len(tiles)
    for number, mesh in enumerate(meshes):
        width = min(column, SIZE)
        left = number * column + (column - width) // 2
        above[:, :, left : left + width] = mesh[:, :, (SIZE - width) // 2 :][:, :, :width]
    write_gif(path, np.concatenate([above, below], axis=1), fps=20)
    return path


def expressions(head: DemoHead, labels: Sequence[str], path: Path) -> Path:
    """Every label at its apex on the mean head."""
    from PIL import Image

    from face4d.demo.expressions import deform, weights_of
    from face4d.demo.head import vertex_colors
    from face4d.render.clay import frame_view, render_mesh
    from face4d.render.contact_sheet import contact_sheet
    from face4d.runtime.atomic import replacing

    framing = frame_view(head.mean, yaw=12)
    colors = vertex_colors(head)
    pictures = [
        render_mesh(
            deform(head, head.mean, weights_of(label)), head.faces, size=SIZE, yaw=12, framing=framing, colors=colors
        )
        for label in labels
    ]
    with replacing(path) as temporary:
        Image.fromarray(contact_sheet(pictures, columns=6, captions=list(labels))).save(temporary)
    return path


if __name__ == "__main__":
    cli.run(main)
