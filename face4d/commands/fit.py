r"""Fit FLAME parameters to a mesh, to a sequence of meshes of one person, or to 68 landmarks.

    python -m face4d fit demo/actors/Demo01.ply --model demo/models/flame --output fitted/Demo01
    python -m face4d fit Dataset_FLAME_Aligned_COMA/FaceTalk_170725_00137_TA/mouth_open --output fitted/mouth_open
    python -m face4d fit vertices_npy/FaceTalk_170725_00137_TA_sentence01.npy --output fitted/sentence01
    python -m face4d fit --landmarks Landmark_dataset_flame_aligned/dataset_testing/Happy_CH01.npy --output fitted/Happy
    python -m face4d fit head.obj --landmark-embedding head_landmarks.npz --output fitted/head

Meshes in the model's topology are fitted at every vertex, others at their landmarks. The frames of a sequence share the
shape coefficients and may be of any length. Writes flame_parameters.npz (the arguments of FlameLayer, and
residual_mm per frame) and the fitted meshes, fitted.ply, or fitted_0000.ply, fitted_0001.ply, ..., or fitted.npy.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli
from face4d.errors import InputError

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.flame.fit import FlameFit
    from face4d.flame.model import FlameModel
    from face4d.mesh.frames import Frames


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
    what.add_argument(
        "input", type=Path, nargs="?", metavar="PATH",
        help="metres: mesh (PLY, OBJ), folder of numbered frames, or npy: (T, V, 3) or (T, 3 V) vertices, or "
        "(T, 68, 3) landmarks",
    )  # fmt: skip
    what.add_argument("--mesh", type=Path, metavar="PATH", help="the same, of vertices")
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
    how.add_argument(
        "--iterations",
        type=cli.integer(1, 100_000),
        default=100,
        metavar="N",
        help="of Gauss-Newton at most, for the identity and for every 16 frames",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of parameters and fitted meshes"
    )
    parser.add_argument(
        "--meshes",
        choices=("ply", "npy", "none"),
        help="how the fitted meshes are written (default: npy for an npy of the model's vertices, else ply)",
    )
    cli.add_run_flags(parser, "device", "threads", "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    cli.refuse_overwrite(args.output, args.overwrite)

    import time

    from face4d.flame.fit import fit_frames, fit_person
    from face4d.flame.fit_files import write_fit
    from face4d.flame.layer import FlameLayer
    from face4d.flame.model import find_model, load_flame_model
    from face4d.landmarks import load_flame_embedding
    from face4d.mesh.frames import is_array
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import counted, track

    limit_threads(args.threads, small=True)
    file = find_model(args.model)
    model = load_flame_model(file)
    path = args.mesh or args.landmarks or args.input
    frames = _frames(args, path, model, file.parent)
    points = "vertices" if frames.vertices == model.num_vertices else "landmarks"
    embedding = load_flame_embedding(file.parent) if points == "landmarks" else None
    layer = FlameLayer(
        model, embedding, num_shape=args.num_shape, num_expression=args.num_expression, contour=args.contour
    ).to(resolve_device(args.device))
    meshes = args.meshes or ("npy" if is_array(path) and points == "vertices" else "ply")
    with sole_writer(args.output.parent, args.output.name):
        start = time.perf_counter()
        person = fit_person(layer, frames, noise=args.noise, iterations=args.iterations)
        identity = time.perf_counter() - start
        with track("fit", total=len(frames), unit="frame", quiet=args.quiet) as bar:

            def parts() -> Iterator[FlameFit]:
                for part in fit_frames(person, frames, smoothness=args.smoothness, iterations=args.iterations):
                    yield part
                    bar.update(len(part.vertices))

            written, residuals = write_fit(args.output, parts(), len(frames), model.faces, meshes)
        seconds = time.perf_counter() - start - identity
    mean, largest = residuals.T
    print(
        f"residual at the {points}: mean {mean.mean():.3f} mm, worst frame {mean.max():.3f} mm "
        f"(number {mean.argmax()}), largest distance {largest.max():.3f} mm, noise {person.noise:.3g} mm\n"
        f"identity {identity:.1f} s, {counted(len(frames), 'frame')} at {1e3 * seconds / len(frames):.0f} ms"
    )
    cli.report_written(written)


def _frames(args: Namespace, path: Path, model: FlameModel, folder: Path) -> Frames:
    """What is fitted: the model's vertices or landmarks, looked at."""
    from face4d.flame.fit_files import landmarks_of_meshes, landmarks_to_fit, vertices_to_fit

    if args.landmarks is not None or (args.mesh is None and _holds_landmarks(path, model.num_vertices)):
        if args.landmark_embedding is not None:
            raise InputError("--landmark-embedding", "a --mesh it belongs to", f"landmarks, {path}")
        return landmarks_to_fit(path)
    if args.landmark_embedding is not None:
        return landmarks_of_meshes(path, args.landmark_embedding)
    return vertices_to_fit(path, model, folder)


def _holds_landmarks(path: Path, vertices: int) -> bool:
    from face4d.constants import NUM_LANDMARKS
    from face4d.mesh.frames import is_array
    from face4d.runtime.arrays import map_numbers

    if not is_array(path):
        return False
    shape = map_numbers(path, f"vertices (T, {vertices}, 3) or landmarks (T, {NUM_LANDMARKS}, 3) (.npy)").shape
    return shape[-2:] == (NUM_LANDMARKS, 3) != (vertices, 3)
