"""Fitting FLAME parameters to a sequence, by its vertices and by its landmarks.

    python benchmarks/sequences.py --model models/flame --sequence sequence.npy --frames 100
    python benchmarks/sequences.py --model models/flame --sequence sequence.npy --repeat 10     # memory of a long one

Prints a Markdown table: processor time per frame, distances from the points that were fitted (mean, worst frame) and
from all vertices (surface) in millimetres, and the largest resident memory of a process that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from face4d.flame.fit import fit_frames, fit_person
from face4d.flame.layer import FlameLayer
from face4d.flame.model import find_model, load_flame_model
from face4d.landmarks import extract, load_flame_embedding
from face4d.mesh.frames import open_frames
from face4d.runtime.device import limit_threads

POINTS = ("vertices", "landmarks")


def measured(args: argparse.Namespace) -> dict[str, float]:
    """One way, in this process."""
    limit_threads(1, small=True)
    file = find_model(args.model)
    model, embedding = load_flame_model(file), None
    source = open_frames(args.sequence, model.num_vertices, model.faces, "the model's topology")
    names = (source.names * args.repeat)[: args.frames]
    count = len(source)

    def read(start: int, stop: int) -> np.ndarray:
        return np.concatenate([source.read(frame % count, frame % count + 1) for frame in range(start, stop)])

    frames = replace(source, names=names, read=read)
    if args.way == "landmarks":
        embedding = marks = load_flame_embedding(file.parent)
        frames = replace(frames, vertices=len(marks.bary), read=lambda start, stop: extract(marks, read(start, stop)))
    layer = FlameLayer(model, embedding, contour="fixed")
    start, true, done = time.process_time(), [], 0
    person = fit_person(layer, frames)
    identity = time.process_time() - start
    parts = []
    for part in fit_frames(person, frames, smoothness=args.smoothness):
        parts.append(part.residuals.mean(axis=1))
        stop = done + len(part.vertices)
        true.append(1e3 * np.linalg.norm(part.vertices - read(done, stop), axis=-1).mean(axis=1))
        done = stop
    residuals = np.concatenate(parts)
    return {
        "frames": len(names),
        "identity": identity,
        "milliseconds": 1e3 * (time.process_time() - start - identity) / len(names),
        "mean": float(residuals.mean()),
        "worst": float(residuals.max()),
        "surface": float(np.concatenate(true).mean()),
        "noise": person.noise,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="FLAME model, or its folder")
    parser.add_argument("--sequence", type=Path, required=True, help="npy (T, V, 3), or a folder of frames")
    parser.add_argument("--frames", type=int, help="so many of them")
    parser.add_argument("--repeat", type=int, default=1, help="times that the sequence is gone through")
    parser.add_argument("--smoothness", type=float, default=0.0)
    parser.add_argument("--way", choices=POINTS, help=argparse.SUPPRESS)
    parser.add_argument("--points", nargs="+", choices=POINTS, default=POINTS, help="which to fit")
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measured(args)))
        return
    print(
        "| points | frames | identity, s | ms per frame | mean, mm | worst, mm | surface, mm | noise, mm | memory, MB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for way in args.points:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        numbers = [f"{found['identity']:.1f}", f"{found['milliseconds']:.1f}", f"{found['mean']:.3f}"]
        numbers += [
            f"{found['worst']:.3f}",
            f"{found['surface']:.3f}",
            f"{found['noise']:.2f}",
            f"{found['megabytes']:.0f}",
        ]
        print(f"| {way} | {found['frames']} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
