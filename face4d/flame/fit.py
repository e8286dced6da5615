r"""Fit FLAME parameters to a mesh, to a sequence of meshes of one person, or to 68 landmarks.

    python -m face4d.flame.fit --model demo/models/flame --mesh demo/actors/Demo01.ply --output fitted/Demo01
    python -m face4d.flame.fit --model models/flame \
        --mesh Dataset_FLAME_Aligned_COMA/FaceTalk_170725_00137_TA/mouth_open --output fitted/mouth_open
    python -m face4d.flame.fit --model models/flame \
        --landmarks Landmark_dataset_flame_aligned/dataset_testing/Happy_CH01.npy --output fitted/Happy
    python -m face4d.flame.fit --model models/flame --mesh head.obj --landmark-embedding head_landmarks.npz \
        --output fitted/head

Meshes in the model's topology are fitted at every vertex, others at their landmarks. The frames of a sequence share the
shape coefficients. Writes flame_parameters.npz (the arguments of FlameLayer, and residual_mm per frame) and the fitted
meshes, fitted.ply or fitted_0000.ply, fitted_0001.ply, ...
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli

if TYPE_CHECKING:
    import numpy as np

    from face4d.flame.layer import FlameLayer
    from face4d.flame.solver import FlameFit

PARAMETER_FILE = "flame_parameters.npz"


def build_parser() -> ArgumentParser:
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

    import numpy as np

    from face4d.flame.solver import fit_flame
    from face4d.runtime.device import limit_threads
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import track

    limit_threads(args.threads, small=True)
    layer, target = _load(args)
    with track("fit", total=args.iterations, unit="step", quiet=args.quiet) as bar:

        def show(done: int, total: int, distance: float) -> None:
            bar.set_postfix_str(f"{distance:.3f} mm", refresh=False)
            bar.update(done - bar.n)

        how = {"noise": args.noise, "smoothness": args.smoothness, "iterations": args.iterations, "progress": show}
        fit = fit_flame(layer, target, name=args.mesh or args.landmarks, **how)
        bar.total = fit.iterations  # converged, or at the limit
        bar.update(fit.iterations - bar.n)
    per_frame = fit.residuals.mean(axis=1)
    points = "vertices" if target.shape[1] == layer.num_vertices else "landmarks"
    print(
        f"residual at the {points}: mean {per_frame.mean():.3f} mm, "
        f"worst frame {per_frame.max():.3f} mm (number {int(np.argmax(per_frame))}), "
        f"largest distance {fit.residuals.max():.3f} mm, noise {fit.noise:.3g} mm, {fit.iterations} iterations"
    )
    with sole_writer(args.output):
        written = write_fit(args.output, fit, layer.faces.cpu().numpy())
    cli.report_written(written)


def write_fit(output: Path, fit: FlameFit, faces: np.ndarray) -> list[Path]:
    """Write the parameters and the fitted meshes into the folder ``output``; returns the paths, meshes as one when
    there are many.

    Meshes of a longer fit that was there before are removed, so that the folder is one sequence.
    """
    import numpy as np

    from face4d.mesh.ply import write_ply
    from face4d.runtime.atomic import replacing

    frames = len(fit.vertices)
    names = ["fitted.ply"] if frames == 1 else [f"fitted_{frame:04d}.ply" for frame in range(frames)]
    for name, vertices in zip(names, fit.vertices):
        write_ply(output / name, vertices, faces)
    with replacing(output / PARAMETER_FILE) as temporary, open(temporary, "wb") as file:
        np.savez(file, **fit.parameters, residual_mm=fit.residuals.mean(axis=1))
    for old in {*output.glob("fitted.ply"), *output.glob("fitted_[0-9][0-9][0-9][0-9].ply")} - {
        output / name for name in names
    }:
        old.unlink()
    return [output / PARAMETER_FILE, output / names[0] if frames == 1 else output]


def load_parameters(path: str | Path) -> dict[str, np.ndarray]:
    """The arguments of :class:`~face4d.flame.layer.FlameLayer` that :func:`write_fit` wrote.

    Raises:
        InputError: no such file or other content.

    Example:
        >>> parameters = load_parameters("fitted/flame_parameters.npz")
        >>> layer(**{name: torch.as_tensor(value) for name, value in parameters.items()}).vertices
    """
    import numpy as np

    from face4d.errors import InputError
    from face4d.runtime.arrays import load_npz

    names = ("shape", "expression", "global_pose", "neck_pose", "jaw_pose", "eye_pose", "translation")
    expected = f"FLAME parameters (.npz with {', '.join(names)})"
    parameters = load_npz(path, expected, names, ())
    frames = {len(array) for array in parameters.values() if array.ndim == 2} - {1}
    for name, array in parameters.items():
        if array.dtype.kind != "f" or array.ndim != 2 or len(frames) > 1 or not np.isfinite(array).all():
            raise InputError(
                f"{path}, {name}",
                "finite numbers (frames, parameters), one frame or as many as the others",
                f"{array.dtype} {array.shape}",
            )
    return parameters


def _load(args: Namespace) -> tuple[FlameLayer, np.ndarray]:
    """The layer and the points (T, N, 3) to fit: vertices if the mesh has the model's topology, else landmarks."""
    from face4d.errors import InputError
    from face4d.flame.layer import FlameLayer
    from face4d.flame.model import find_model, load_flame_model
    from face4d.landmarks import (
        DYNAMIC_FILE,
        STATIC_FILE,
        TEMPLATE_FILE,
        check_mesh,
        extract,
        load_embedding,
        load_flame_embedding,
        mesh_remarks,
    )
    from face4d.mesh.plausibility import check_jumps, report
    from face4d.mesh.sequence import frame_paths, read_sequence
    from face4d.mesh.triangles import check_topology
    from face4d.runtime.device import resolve_device

    if args.landmark_embedding is not None and args.mesh is None:
        raise InputError("--landmark-embedding", "a --mesh it belongs to", "--landmarks")
    file = find_model(args.model)
    model = load_flame_model(file)
    embedding = None
    if args.mesh is None:
        target = _landmark_file(args.landmarks)
    else:
        paths = [args.mesh]
        if args.mesh.is_dir():
            has_ply = any(path.suffix.lower() == ".ply" for path in args.mesh.iterdir())
            paths = frame_paths(args.mesh, ".ply" if has_ply else ".obj")
        target, faces = read_sequence(paths)
        if args.landmark_embedding is not None:
            own = load_embedding(args.landmark_embedding)
            report(args.mesh, mesh_remarks(str(args.mesh), faces, check_mesh(paths[0], target[0], faces, own)))
            target = extract(own, target)
        else:
            try:
                check_topology(
                    paths[0], target.shape[1], faces, model.num_vertices, model.faces, "the model's topology"
                )
            except InputError as error:
                raise InputError(error.path, f"{error.expected} or --landmark-embedding", error.found) from None
            if all((file.parent / name).is_file() for name in (STATIC_FILE, DYNAMIC_FILE, TEMPLATE_FILE)):
                # sees more, a mirrored head for one
                check_mesh(paths[0], target[0], faces, load_flame_embedding(file.parent))
        check_jumps(paths, target[:, :: max(target.shape[1] // 300, 1)])
    if target.shape[1] != model.num_vertices:
        embedding = load_flame_embedding(file.parent)
    layer = FlameLayer(
        model, embedding, num_shape=args.num_shape, num_expression=args.num_expression, contour=args.contour
    )
    return layer.to(resolve_device(args.device)), target


def _landmark_file(path: Path) -> np.ndarray:
    """Landmarks (T, 68, 3) of an npy file."""
    from face4d.constants import NUM_LANDMARKS
    from face4d.errors import InputError
    from face4d.mesh.plausibility import as_float32, check_face, face_remarks, report
    from face4d.runtime.arrays import load_numbers

    expected = f"landmarks (T, {NUM_LANDMARKS}, 3) or ({NUM_LANDMARKS}, 3) in metres (.npy)"
    landmarks = load_numbers(path, expected)
    if (
        landmarks.shape[-2:] != (NUM_LANDMARKS, 3)
        or landmarks.ndim not in (2, 3)
        or landmarks.dtype.kind != "f"
        or not landmarks.size
    ):
        raise InputError(path, expected, f"{landmarks.dtype} {landmarks.shape}")
    landmarks = landmarks.reshape(-1, NUM_LANDMARKS, 3)
    check_face(path, as_float32(path, landmarks))
    report(path, face_remarks(str(path), landmarks[0]))
    return landmarks


if __name__ == "__main__":
    cli.run(main)
