r"""Fit FLAME parameters to a mesh, to a sequence of meshes of one person, or to 68 landmarks.

    python -m face4d fit demo/actors/Demo01.ply --model demo/models/flame --output fitted/Demo01
    python -m face4d fit Dataset_FLAME_Aligned_COMA/FaceTalk_170725_00137_TA/mouth_open --output fitted/mouth_open
    python -m face4d fit vertices_npy/FaceTalk_170725_00137_TA_sentence01.npy --output fitted/sentence01
    python -m face4d fit --landmarks Landmark_dataset_flame_aligned/dataset_testing/Happy_CH01.npy --output fitted/Happy
    python -m face4d fit head.obj --landmark-embedding head_landmarks.npz --output fitted/head

Meshes in the model's topology are fitted at every vertex, others at their landmarks. The frames of a sequence share the
shape coefficients; of vertices it may have any length. Writes flame_parameters.npz (the arguments of FlameLayer, and
residual_mm per frame) and the fitted meshes, fitted.ply, or fitted_0000.ply, fitted_0001.ply, ..., or fitted.npy.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.errors import InputError

if TYPE_CHECKING:  # these load torch, and parsing flags must not
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
        default=300,
        metavar="N",
        help="of L-BFGS, at most; of Gauss-Newton, for 16 frames, with sequences of vertices",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of parameters and fitted meshes"
    )
    parser.add_argument(
        "--meshes",
        choices=("ply", "npy", "none"),
        help="how the fitted meshes of a sequence are written (default: npy for npy, else ply)",
    )
    cli.add_run_flags(parser, "device", "threads", "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    cli.refuse_overwrite(args.output, args.overwrite)

    from face4d.flame.model import find_model, load_flame_model
    from face4d.runtime.device import limit_threads
    from face4d.runtime.lock import sole_writer

    limit_threads(args.threads, small=True)
    file = find_model(args.model)
    model = load_flame_model(file)
    path = args.mesh or args.landmarks or args.input
    is_landmarks = args.landmarks is not None or (args.mesh is None and _holds_landmarks(path, model.num_vertices))
    if args.landmark_embedding is not None and is_landmarks:
        raise InputError("--landmark-embedding", "a --mesh it belongs to", f"landmarks, {path}")
    from face4d.flame.fit import frames_of_model

    frames = None if is_landmarks or args.landmark_embedding else frames_of_model(path, model, file.parent)
    with sole_writer(args.output.parent, args.output.name):
        if frames is not None and len(frames) > 1:
            written = fit_sequence(args, model, frames)
        else:
            written = fit_together(args, path, model, file.parent, is_landmarks)
    cli.report_written(written)


def _holds_landmarks(path: Path, vertices: int) -> bool:
    from face4d.constants import NUM_LANDMARKS
    from face4d.mesh.frames import is_array
    from face4d.runtime.arrays import map_numbers

    if not is_array(path):
        return False
    shape = map_numbers(path, f"vertices (T, {vertices}, 3) or landmarks (T, {NUM_LANDMARKS}, 3) (.npy)").shape
    return shape[-2:] == (NUM_LANDMARKS, 3) != (vertices, 3)


def fit_together(args: Namespace, path: Path, model: FlameModel, folder: Path, is_landmarks: bool) -> list[Path]:
    """One mesh, or landmarks of any number of frames, all at once."""
    import numpy as np

    from face4d.flame.fit import fit_flame, points_of_landmarks, points_of_meshes, write_fit
    from face4d.flame.layer import FlameLayer
    from face4d.landmarks import load_flame_embedding
    from face4d.runtime.device import resolve_device

    if is_landmarks:
        target = points_of_landmarks(path)
    else:
        target = points_of_meshes(path, model, folder, args.landmark_embedding)
    points = "vertices" if target.shape[1] == model.num_vertices else "landmarks"
    embedding = load_flame_embedding(folder) if points == "landmarks" else None
    layer = FlameLayer(
        model, embedding, num_shape=args.num_shape, num_expression=args.num_expression, contour=args.contour
    ).to(resolve_device(args.device))
    how = {"noise": args.noise, "smoothness": args.smoothness, "iterations": args.iterations, "quiet": args.quiet}
    fit = fit_flame(layer, target, name=path, **how)
    per_frame = fit.residuals.mean(axis=1)
    print(
        f"residual at the {points}: mean {per_frame.mean():.3f} mm, worst frame {per_frame.max():.3f} mm "
        f"(number {int(np.argmax(per_frame))}), largest distance {fit.residuals.max():.3f} mm, "
        f"noise {fit.noise:.3g} mm, {fit.iterations} iterations"
    )
    return write_fit(args.output, fit, layer.faces.cpu().numpy())


def fit_sequence(args: Namespace, model: FlameModel, frames: Frames) -> list[Path]:
    """A sequence of vertices, part by part; the output appears when it is whole."""
    import time

    import numpy as np

    from face4d.flame.fit import MESHES, PARAMETER_FILE
    from face4d.flame.sequence_fit import fit_frames, fit_person
    from face4d.mesh.frames import is_array
    from face4d.mesh.ply import write_ply
    from face4d.runtime.atomic import replacing_folder
    from face4d.runtime.device import resolve_device
    from face4d.runtime.progress import counted, track

    meshes = args.meshes or ("npy" if is_array(frames.path) else "ply")
    start = time.perf_counter()
    person = fit_person(
        model,
        frames,
        num_shape=args.num_shape,
        num_expression=args.num_expression,
        noise=args.noise,
        steps=args.iterations,
        device=resolve_device(args.device),
    )
    before = time.perf_counter()
    parts: list[dict[str, np.ndarray]] = []
    mean: list[float] = []
    largest: list[float] = []
    steps = 0
    made = [old.name for pattern in (*MESHES, PARAMETER_FILE) for old in args.output.glob(pattern)]
    with (
        replacing_folder(args.output, made) as folder,
        track("fit", total=len(frames), unit="frame", quiet=args.quiet) as bar,
    ):
        if meshes == "npy":
            shape = (len(frames), model.num_vertices, 3)
            all_vertices = np.lib.format.open_memmap(folder / "fitted.npy", "w+", np.float32, shape)
        for part in fit_frames(person, frames, smoothness=args.smoothness, steps=args.iterations):
            for frame, vertices in enumerate(part.vertices, len(mean)):
                if meshes == "npy":
                    all_vertices[frame] = vertices
                elif meshes == "ply":
                    write_ply(folder / f"fitted_{frame:04d}.ply", vertices, model.faces)
            parts.append(part.parameters)
            mean += part.residuals.mean(axis=1).tolist()
            largest.append(float(part.residuals.max()))
            steps += part.steps * len(part.vertices)
            bar.update(len(part.vertices))
        parameters = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays: dict[str, Any] = {"shape": person.shape, **parameters, "residual_mm": np.array(mean, np.float32)}
        np.savez(folder / PARAMETER_FILE, **arrays)
    seconds = time.perf_counter() - before
    print(
        f"residual at the vertices: mean {np.mean(mean):.3f} mm, worst frame {max(mean):.3f} mm "
        f"(number {int(np.argmax(mean))}), largest distance {max(largest):.3f} mm, noise {person.noise:.3g} mm\n"
        f"identity {before - start:.1f} s, {counted(len(frames), 'frame')} at {1e3 * seconds / len(frames):.0f} ms, "
        f"{steps / len(frames):.1f} steps each"
    )
    return [args.output / PARAMETER_FILE, args.output]
