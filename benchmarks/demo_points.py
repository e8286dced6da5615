"""Make face4d/demo/points.npz: where the landmark network sees its 468 points on the demo head.

    python benchmarks/demo_points.py

24 people, each at rest and with an expression (so that points of the two lips part), drawn at the finest level from 27
sides. Points are places on the chart; both halves of the face are measured as one, mirrored. Takes three minutes.
Prints a Markdown table: millimetres from the places measured on other people.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from face4d.demo.expressions import COMA_EXPRESSIONS, FLORENCE_EXPRESSIONS, deform, weights_of
from face4d.demo.flame import demo_embedding
from face4d.demo.head import SKIN, demo_head, identity_weights
from face4d.demo.points import FILE
from face4d.landmarks import extract
from face4d.runtime.atomic import save_npz
from face4d.runtime.progress import track
from face4d.synthetic.head_views import PITCHES, YAWS, head_views
from face4d.synthetic.point_embedding import HeadView, errors_by_yaw, measure_embedding, mirror_partners

LEVEL, PEOPLE, SEED = 2, 24, 468


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FILE, metavar="FILE", help="npz to write")
    output = parser.parse_args().output
    head = demo_head(LEVEL)
    neutral = [head.neutral(identity_weights(SEED, number)) for number in range(PEOPLE)]
    labels = list((COMA_EXPRESSIONS | FLORENCE_EXPRESSIONS).keys())
    moved = [deform(head, face, weights_of(labels[number % len(labels)])) for number, face in enumerate(neutral)]
    at_rest = with_landmarks(2 * neutral)
    drawn = head_views(with_landmarks(neutral + moved), head.faces, SEED, at_rest)
    total = len(at_rest) * len(YAWS) * len(PITCHES)
    views: list[HeadView] = [view for view in track("looking", drawn, total=total, unit="picture") if view is not None]
    print(f"{len(at_rest)} heads, {len(views)} of {total} pictures in which the network sees a face")
    skin = head.faces[(head.kind[head.faces] == SKIN).all(axis=1)]
    embedding, left_out = measure_embedding(views, skin)
    corners = skin[embedding.face_idx]  # (A, 468, 3)
    chart = np.stack([head.p * np.where(head.side < 0, -1, 1), head.q], axis=1)
    places = np.einsum("ank,ankd->and", embedding.bary, chart[corners])
    other = mirror_partners(places[len(YAWS) // 2])
    places = (places + places[::-1][:, other] * [-1, 1]) / 2
    spread = (embedding.spread + embedding.spread[::-1][:, other]) / 2
    save_npz(
        output,
        {
            "yaw": embedding.yaw.astype(np.float32),
            "chart": places.astype(np.float32),
            "spread": spread.astype(np.float32),
        },
    )
    print("| yaw | median (mm) | 90th percentile |\n|---:|---:|---:|")
    for yaw, median, most in errors_by_yaw(embedding, views, left_out):
        print(f"| {yaw:.0f} | {median:.2f} | {most:.2f} |")
    print(f"wrote {output.resolve()}")


def with_landmarks(faces: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Heads (V, 3) with their 68 landmarks."""
    return [(face, extract(demo_embedding(LEVEL), face)) for face in faces]


if __name__ == "__main__":
    main()
