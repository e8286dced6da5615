"""Make the pictures of the README again, from the demo's own results.

    bash run.sh demo
    .venv/bin/python git_readme_img/regenerate.py

Writes into git_readme_img/, each below one megabyte: face4d.gif (docs/example_timeline.csv, played by the demo's
generator, its surface moved by the demo's decoder), florence.gif and coma.gif (the ten labels of Florence 4D and the
twelve of CoMA, performed by the demo head), all drawn as test.py draws its exports.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli

if TYPE_CHECKING:
    import numpy as np

    from face4d.generation.timeline import Expression

TIMELINE = Path(__file__).resolve().parents[1] / "docs" / "example_timeline.csv"
SIZE, SMALL, YAW = 240, 144, 16
FPS, STEP = 30, 2  # frames a second of the timeline, of which every second is shown
CHART, LABELS, MARGIN = 400, 160, 12  # pixels: width of the chart, of its captions, and its margin
FRAMES, LABEL_FPS = 40, 12.5  # of the labels
HEAD, FACE = ((0.0, 0.006), 0.136), ((0.004, 0.003), 0.120)  # middles and half the sides of what is shown, metres


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
    from face4d.errors import InputError

    checkpoint, decoder = args.demo / "models" / "demo_controls.pt", args.demo / "models" / "dense_demo_regional.pt"
    for path in (checkpoint, decoder):
        if not path.is_file():
            raise InputError(path, "the demo's results (bash run.sh demo)", "no such file")
    args.output.mkdir(parents=True, exist_ok=True)
    written = [
        moving_scene(checkpoint, decoder, args.output / "face4d.gif"),
        moving_labels(FLORENCE_LABELS, args.output / "florence.gif", columns=5),
        moving_labels(COMA_LABELS, args.output / "coma.gif", columns=6),
    ]
    cli.report_written(written)


def moving_scene(checkpoint: Path, decoder: Path, path: Path) -> Path:
    """The timeline, played by the demo's generator, on the mean head; beside it what is asked for when."""
    import numpy as np

    from face4d.demo.head import demo_head
    from face4d.generation.sample import load_generator
    from face4d.generation.timeline import play, read_timeline
    from face4d.landmarks import extract
    from face4d.render.clay import Framing, render_sequence
    from face4d.render.media import write_gif
    from face4d.view.export import load_dense_decoder
    from face4d.view.looks import shown_head

    generator, dense, head = load_generator(checkpoint), load_dense_decoder(decoder), demo_head(0)
    expressions = read_timeline(TIMELINE, generator.labels, cli.MOST_FRAMES)
    moved = play(generator, expressions, extract(dense.embedding, head.mean))[::STEP]  # (T, 68, 3)
    shown = shown_head([dense.decode(moved, head.mean)], head.faces, head.mean)
    faces = render_sequence(
        shown.motions[0], shown.faces, size=SIZE, colors=shown.colours, yaw=YAW, framing=Framing(*HEAD)
    )
    charts = [chart(expressions, frame * STEP) for frame in range(len(moved))]
    write_gif(path, np.concatenate([faces, charts], axis=2), fps=FPS / STEP)
    return path


def moving_labels(labels: Sequence[str], path: Path, columns: int) -> Path:
    """Every label, performed by the mean head as the demo's first person performs it, side by side and in step."""
    import numpy as np

    from face4d.constants import THESIS_SEED
    from face4d.demo.expressions import deform
    from face4d.demo.head import demo_head
    from face4d.demo.write import sequence_weights
    from face4d.render.clay import Framing, render_sequence
    from face4d.render.contact_sheet import contact_sheet
    from face4d.render.media import write_gif
    from face4d.view.looks import shown_head

    head = demo_head(1)
    motions = [
        np.stack([deform(head, head.mean, weights) for weights in sequence_weights(THESIS_SEED, 0, label, FRAMES)])
        for label in labels
    ]
    shown = shown_head(motions, head.faces, head.mean)
    faces = [
        render_sequence(motion, head.faces, size=SMALL, colors=shown.colours, yaw=YAW, framing=Framing(*FACE))
        for motion in motions
    ]  # (T, SMALL, SMALL, 3) each
    write_gif(path, np.stack([contact_sheet(row, columns, labels) for row in zip(*faces)]), fps=LABEL_FPS)
    return path


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


if __name__ == "__main__":
    cli.run(main)
