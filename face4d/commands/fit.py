r"""Fit FLAME parameters to a mesh, to a sequence of meshes of one person, or to 68 landmarks.

    python -m face4d fit --model demo/models/flame --mesh demo/actors/Demo01.ply --output fitted/Demo01
    python -m face4d fit --model models/flame \
        --mesh Dataset_FLAME_Aligned_COMA/FaceTalk_170725_00137_TA/mouth_open --output fitted/mouth_open
    python -m face4d fit --model models/flame \
        --landmarks Landmark_dataset_flame_aligned/dataset_testing/Happy_CH01.npy --output fitted/Happy
    python -m face4d fit --model models/flame --mesh head.obj --landmark-embedding head_landmarks.npz \
        --output fitted/head

Meshes in the model's topology are fitted at every vertex, others at their landmarks. The frames of a sequence share the
shape coefficients. Writes flame_parameters.npz (the arguments of FlameLayer, and residual_mm per frame) and the fitted
meshes, fitted.ply or fitted_0000.ply, fitted_0001.ply, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.errors import InputError


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models/flame"),
        metavar="PATH",
        help="FLAME model, .pkl or .npz, or the folder with it and its embeddings",
    )
    what = parser.add_argument_group("what to fit").add_mutually_exclusive_group(required=True)
    what.add_argument("--mesh", type=Path, metavar="PATH", help="PLY or OBJ, or a folder of numbered frames, metres")
    what.add_argument(
        "--landmarks", type=Path, metavar="FILE", help="npy, (T, 68, 3) or (68, 3), metres, jaw line first"
    )
    parser.add_argument(
        "--landmark-embedding",
        type=Path,
        metavar="FILE",
        help="landmarks of a --mesh of another topology (npz with face_idx, bary, faces)",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--num-shape", type=cli.integer(1, 1000), default=100, metavar="N", help="shape coefficients")
    how.add_argument(
        "--num-expression", type=cli.integer(1, 1000), default=50, metavar="N", help="expression coefficients"
    )
    how.add_argument(
        "--contour",
        choices=("fixed", "geometry", "deca", "smplx"),
        default="fixed",
        help="what the jaw line points of turned heads are (fixed: as step 3 writes them)",
    )
    how.add_argument(
        "--noise",
        type=cli.number(0, 1000, above=True),
        metavar="MM",
        help="expected distance of a point; larger keeps closer to the mean face (default: estimated)",
    )
    how.add_argument(
        "--smoothness",
        type=cli.number(0, 1e6),
        default=0.0,
        metavar="X",
        help="weight of changes of expression and jaw between frames",
    )
    how.add_argument("--iterations", type=cli.integer(1, 100_000), default=300, metavar="N", help="of L-BFGS, at most")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of parameters and fitted meshes"
    )
    cli.add_run_flags(parser, "device", "threads", "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    cli.refuse_overwrite(args.output, args.overwrite)
    if args.landmark_embedding is not None and args.mesh is None:
        raise InputError("--landmark-embedding", "a --mesh it belongs to", "--landmarks")

    import numpy as np

    from face4d.flame.fit import fit_flame, points_of_landmarks, points_of_meshes, write_fit
    from face4d.flame.layer import FlameLayer
    from face4d.flame.model import find_model, load_flame_model
    from face4d.landmarks import load_flame_embedding
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.lock import sole_writer

    limit_threads(args.threads, small=True)
    file = find_model(args.model)
    model = load_flame_model(file)
    if args.mesh is None:
        target = points_of_landmarks(args.landmarks)
    else:
        target = points_of_meshes(args.mesh, model, file.parent, args.landmark_embedding)
    points = "vertices" if target.shape[1] == model.num_vertices else "landmarks"
    embedding = load_flame_embedding(file.parent) if points == "landmarks" else None
    layer = FlameLayer(
        model, embedding, num_shape=args.num_shape, num_expression=args.num_expression, contour=args.contour
    ).to(resolve_device(args.device))
    how = {"noise": args.noise, "smoothness": args.smoothness, "iterations": args.iterations, "quiet": args.quiet}
    fit = fit_flame(layer, target, name=args.mesh or args.landmarks, **how)
    per_frame = fit.residuals.mean(axis=1)
    print(
        f"residual at the {points}: mean {per_frame.mean():.3f} mm, worst frame {per_frame.max():.3f} mm "
        f"(number {int(np.argmax(per_frame))}), largest distance {fit.residuals.max():.3f} mm, "
        f"noise {fit.noise:.3g} mm, {fit.iterations} iterations"
    )
    with sole_writer(args.output):
        written = write_fit(args.output, fit, layer.faces.cpu().numpy())
    cli.report_written(written)
