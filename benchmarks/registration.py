"""Registration of scans whose true correspondences are known: heads in another order, place and unit.

    python benchmarks/registration.py --actors ../shared/data/actors --flame ../shared/data/flame_assets

Each head is registered twice from the template of the landmark files, which is none of them, without any help. Clean:
vertices in another order, turned, in another unit. Damaged: simplified to a third of its vertices too, with noise of
0.3 mm, a hole in the cheek, and the back of the head or all below the chin cut off. Prints a Markdown table:
millimetres to the true surface and to the true place of the same vertex, and seconds of processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from face4d.dense.edge_collapse import collapse_edges
from face4d.errors import InputError
from face4d.landmarks import extract
from face4d.mesh.geometry import closest_points, vertex_normals
from face4d.mesh.sequence import read_mesh
from face4d.registration.pipeline import UNITS, regions, register_scan
from face4d.registration.scan import Scan, clean_scan
from face4d.registration.template import Template, load_template
from face4d.registration.views import view_anchors

NOISE = 0.0003  # metres


def damaged(vertices: np.ndarray, template: Template, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A third of a head's vertices, noisy, with a hole and a part cut off."""
    landmarks = extract(template.embedding, vertices)
    kept, faces = collapse_edges(vertices, template.faces.astype(np.int64), len(vertices) // 3)
    points = vertices[kept]
    points = points + draw.normal(0, NOISE, len(points))[:, None] * vertex_normals(points, faces)
    hole = landmarks[[3, 31] if draw.random() < 0.5 else [13, 35]].mean(axis=0)
    gone = np.linalg.norm(points - hole, axis=1) < 0.015
    gone |= (
        points[:, 2] < landmarks[17:, 2].mean() - 0.08 if draw.random() < 0.5 else points[:, 1] < landmarks[8, 1] - 0.02
    )
    return points, faces[~gone[faces].any(axis=1)]


def as_scan(
    vertices: np.ndarray, faces: np.ndarray, draw: np.random.Generator
) -> tuple[Scan, np.ndarray, float, np.ndarray]:
    """A scan of the head in another order, place and unit; with its rotation, scale and translation."""
    turns = Rotation.create_group("O")[int(draw.integers(24))] * Rotation.from_rotvec(draw.normal(0, 0.15, 3))
    turn, shift = turns.as_matrix(), draw.normal(0, 0.3, 3)
    scale = 1 / list(UNITS.values())[int(draw.integers(len(UNITS)))]
    order = draw.permutation(len(vertices))
    number = np.argsort(order)
    points = scale * (vertices[order] @ turn.T + shift)
    return clean_scan("scan", points, number[faces][draw.permutation(len(faces))]), turn, scale, shift


def measured(
    vertices: np.ndarray, template: Template, damage: bool, draw: np.random.Generator
) -> dict[str, float | str]:
    """Scores of one registration, or why there is none."""
    points, faces = damaged(vertices, template, draw) if damage else (vertices, template.faces)
    scan, turn, scale, shift = as_scan(points, faces, draw)
    start = time.process_time()
    try:
        found = register_scan("scan", scan, template, view_anchors("scan", scan, template))
    except InputError as error:
        return {"failed": str(error), "seconds": time.process_time() - start}
    seconds = time.process_time() - start
    in_file = (found.vertices - found.placed.translation) @ found.placed.rotation / found.placed.scale
    out = (in_file / scale - shift) @ turn
    off = 1e3 * np.linalg.norm(out - vertices, axis=1)
    away = 1e3 * closest_points(out, vertices, template.faces).distance
    face = regions(template)["face"]
    return {
        "surface": float(np.median(away)),
        "surface, face": float(np.median(away[face])),
        "vertices": float(np.median(off)),
        "vertices, mean": float(off.mean()),
        "vertices, face": float(np.median(off[face])),
        "unit right": float(abs(found.placed.scale * scale - 1) < 1e-6),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=Path, required=True, help="folder of heads")
    parser.add_argument("--flame", type=Path, required=True, help="folder of the landmark files and the template")
    parser.add_argument("--only", nargs="+", help="names of heads")
    parser.add_argument("--seed", type=int, default=27)
    parser.add_argument("--json", type=Path, help="file for every number")
    args = parser.parse_args()
    template = load_template(args.flame)
    results: dict[str, dict[str, dict[str, float | str]]] = {"clean": {}, "damaged": {}}
    for number, path in enumerate(sorted(args.actors.glob("*.ply"))):  # numbers, and so draws, do not depend on --only
        if args.only and path.stem not in args.only:
            continue
        vertices = read_mesh(path)[0].astype(np.float64)
        for kind, rows in results.items():
            draw = np.random.default_rng([args.seed, number, kind == "damaged"])
            rows[path.stem] = measured(vertices, template, kind == "damaged", draw)
            print(
                path.stem,
                kind,
                *(
                    f"{key} {value:.3f}" if isinstance(value, float) else value
                    for key, value in rows[path.stem].items()
                ),
                flush=True,
            )
    print(
        "\n| scans | registered | surface | surface, face | same vertex | same vertex, face | units right | seconds |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for kind, rows in results.items():
        good = [row for row in rows.values() if "failed" not in row]
        keys = ("surface", "surface, face", "vertices", "vertices, face")
        middle = [f"{np.median([row[key] for row in good]):.2f}" for key in keys] if good else ["-"] * 4
        right, most = sum(float(row["unit right"]) for row in good), max(float(row["seconds"]) for row in rows.values())
        print(f"| {kind} | {len(good)} of {len(rows)} | {' | '.join(middle)} | {right:.0f} | at most {most:.0f} |")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
