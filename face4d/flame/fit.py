"""FLAME parameters fitted to meshes or landmarks, as files: the points to fit, and what a fit leaves on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.flame.model import FlameModel
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
from face4d.mesh.plausibility import as_float32, check_face, check_jumps, face_remarks, report
from face4d.mesh.ply import write_ply
from face4d.mesh.sequence import frame_paths, read_sequence
from face4d.mesh.triangles import check_topology
from face4d.runtime.arrays import load_npz, load_numbers
from face4d.runtime.atomic import replacing

if TYPE_CHECKING:  # it loads torch
    from face4d.flame.solver import FlameFit

PARAMETER_FILE = "flame_parameters.npz"


def points_of_meshes(path: Path, model: FlameModel, folder: Path, landmark_embedding: Path | None = None) -> np.ndarray:
    """The points of meshes to fit: vertices (T, V, 3) if they have the model's topology, else landmarks (T, 68, 3),
    metres.

    Args:
        path: PLY or OBJ, or a folder of numbered frames.
        folder: of the model's landmark embeddings, by which its meshes are checked further where they are there.
        landmark_embedding: npz of the meshes' own topology.

    Raises:
        InputError: meshes that cannot be read, of another topology without an embedding, no heads in metres, or that
            jump.
    """
    paths = [path]
    if path.is_dir():
        has_ply = any(entry.suffix.lower() == ".ply" for entry in path.iterdir())
        paths = frame_paths(path, ".ply" if has_ply else ".obj")
    target, faces = read_sequence(paths)
    if landmark_embedding is not None:
        own = load_embedding(landmark_embedding)
        report(path, mesh_remarks(str(path), faces, check_mesh(paths[0], target[0], faces, own)))
        target = extract(own, target)
    else:
        try:
            check_topology(paths[0], target.shape[1], faces, model.num_vertices, model.faces, "the model's topology")
        except InputError as error:
            raise InputError(error.path, f"{error.expected} or --landmark-embedding", error.found) from None
        if all((folder / name).is_file() for name in (STATIC_FILE, DYNAMIC_FILE, TEMPLATE_FILE)):
            check_mesh(paths[0], target[0], faces, load_flame_embedding(folder))  # sees more, a mirrored head for one
    check_jumps(paths, target[:, :: max(target.shape[1] // 300, 1)])
    return target


def points_of_landmarks(path: Path) -> np.ndarray:
    """Landmarks (T, 68, 3) in metres of an npy file.

    Raises:
        InputError: another content, or no face in metres.
    """
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


def write_fit(output: Path, fit: FlameFit, faces: np.ndarray) -> list[Path]:
    """Write the parameters and the fitted meshes into the folder ``output``; returns the paths, meshes as one when
    there are many.

    Meshes of a longer fit that was there before are removed, so that the folder is one sequence.
    """
    frames = len(fit.vertices)
    names = ["fitted.ply"] if frames == 1 else [f"fitted_{frame:04d}.ply" for frame in range(frames)]
    for name, vertices in zip(names, fit.vertices):
        write_ply(output / name, vertices, faces)
    with replacing(output / PARAMETER_FILE) as temporary, open(temporary, "wb") as file:
        arrays: dict[str, Any] = {**fit.parameters, "residual_mm": fit.residuals.mean(axis=1)}
        np.savez(file, **arrays)
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
