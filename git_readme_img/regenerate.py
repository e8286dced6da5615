"""Make the pictures of the README again, from the demo's own results.

    bash run.sh demo
    .venv/bin/python git_readme_img/regenerate.py

Writes into git_readme_img/: face4d.gif (docs/example_timeline.csv, played by the demo's generator on the demo head in
more detail) and expressions.png (all labels of both data sets on that head).
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli

if TYPE_CHECKING:
    import numpy as np

    from face4d.demo.head import DemoHead
    from face4d.generation.timeline import Expression
    from face4d.landmarks import LandmarkEmbedding

TIMELINE = Path(__file__).resolve().parents[1] / "docs" / "example_timeline.csv"
SIZE, YAW = 240, 16
FPS, STEP = 30, 2  # frames a second of the timeline, of which every second is shown
CHART, LABELS, MARGIN = 400, 160, 12  # pixels: width of the chart, of its captions, and its margin
TRAINING, STRENGTH = 4, 1e-4  # subjects the decoder learns from; of its ridge regression, square millimetres


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

    checkpoint = args.demo / "models" / "demo_controls.pt"
    if not checkpoint.is_file():
        raise InputError(checkpoint, "the demo's results (bash run.sh demo)", "no such file")
    args.output.mkdir(parents=True, exist_ok=True)
    head = demo_head(1)
    written = [
        moving_scene(head, checkpoint, args.output / "face4d.gif"),
        expressions(head, (*COMA_LABELS, *FLORENCE_LABELS), args.output / "expressions.png"),
    ]
    cli.report_written(written)


def moving_scene(head: DemoHead, checkpoint: Path, path: Path) -> Path:
    """The timeline, played by the demo's generator, on the mean head; beside it what is asked for when."""
    import numpy as np

    from face4d.demo.head import vertex_colors
    from face4d.generation.sample import load_generator
    from face4d.generation.timeline import play, read_timeline
    from face4d.landmarks import extract
    from face4d.render.clay import Framing, render_sequence
    from face4d.render.media import write_gif

    generator = load_generator(checkpoint)
    expressions = read_timeline(TIMELINE, generator.labels, cli.MOST_FRAMES)
    embedding = embedding_of(head)
    moved = play(generator, expressions, extract(embedding, head.mean))[::STEP]  # (T, 68, 3)
    vertices = head.mean + decoded(head, embedding, moved)
    faces = render_sequence(
        vertices, head.faces, size=SIZE, colors=vertex_colors(head), yaw=YAW, framing=Framing((0.0, 0.008), 0.128)
    )
    charts = [chart(expressions, frame * STEP) for frame in range(len(moved))]
    write_gif(path, np.concatenate([faces, charts], axis=2), fps=FPS / STEP)
    return path


def embedding_of(head: DemoHead) -> LandmarkEmbedding:
    """The 68 landmarks of a head of any level of detail."""
    import numpy as np

    from face4d.demo.flame import dynamic_embedding, static_embedding
    from face4d.landmarks import LandmarkEmbedding

    (contour_face, contour_bary), (static_face, static_bary) = dynamic_embedding(head), static_embedding(head)
    face_idx = np.concatenate([contour_face[0], static_face])  # row 0: a face that looks ahead
    bary = np.concatenate([contour_bary[0], static_bary])
    return LandmarkEmbedding(face_idx, bary, head.faces, len(head.mean))


def decoded(head: DemoHead, embedding: LandmarkEmbedding, moved: np.ndarray) -> np.ndarray:
    """Vertex displacements (T, V, 3) of the mean head for those of its landmarks (T, 68, 3): ridge regression on the
    expressions of the demo's training subjects, performed by this head.
    """
    import numpy as np

    from face4d.constants import COMA_LABELS, MM_PER_METRE, THESIS_SEED
    from face4d.demo.expressions import deform
    from face4d.demo.write import sequence_weights
    from face4d.dense.closed_form import NormalEquations, ridge
    from face4d.landmarks import extract

    weights = [
        sequence_weights(THESIS_SEED, subject, label, 24) for label in COMA_LABELS for subject in range(TRAINING)
    ]
    meshes = np.stack([deform(head, head.mean, frame) for frame in np.concatenate(weights)])  # (N, V, 3)
    seen = extract(embedding, meshes) - extract(embedding, head.mean)
    flat = [MM_PER_METRE * array.reshape(len(array), -1) for array in (seen, meshes - head.mean, moved)]
    return ((flat[2] @ ridge(NormalEquations.of(*flat[:2]), STRENGTH)) / MM_PER_METRE).reshape(len(moved), -1, 3)


def chart(expressions: Sequence[Expression], now: int) -> np.ndarray:
    """(SIZE, CHART, 3) uint8: a row for every expression, as high as it is there at each frame; a line at frame
    ``now``.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    from face4d.generation.timeline import envelope

    last = int(max(expression.controls.offset for expression in expressions))
    row, scale = (SIZE - 2 * MARGIN) / len(expressions), (CHART - LABELS - MARGIN) / last
    picture = Image.new("RGB", (CHART, SIZE), "white")
    pen = ImageDraw.Draw(picture)
    for number, expression in enumerate(expressions):
        floor = MARGIN + (number + 0.85) * row
        times = np.arange(last + 1)
        height = envelope(expression.controls.array()[:4], times)
        outline = [(LABELS + scale * t, floor - 0.7 * row * h) for t, h in zip(times, height)]
        shown = height[now] > 0
        pen.polygon([(LABELS, floor), *outline], fill=(214, 138, 92) if shown else (226, 218, 212))
        text = expression.label + (f", {' + '.join(expression.region)}" if expression.region else "")
        pen.text((0, floor - 13), text, fill=(40, 40, 40) if shown else (150, 150, 150), font_size=12)
    x = LABELS + scale * now
    pen.line([(x, MARGIN), (x, SIZE - MARGIN)], fill=(60, 60, 60), width=1)
    return np.asarray(picture)


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
            deform(head, head.mean, weights_of(label)), head.faces, size=240, yaw=12, framing=framing, colors=colors
        )
        for label in labels
    ]
    with replacing(path) as temporary:
        Image.fromarray(contact_sheet(pictures, columns=6, captions=list(labels))).save(temporary)
    return path


if __name__ == "__main__":
    cli.run(main)
