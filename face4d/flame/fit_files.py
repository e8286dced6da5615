"""Files of fits: meshes and landmarks as the points to fit, parameters and fitted meshes as what is written."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.flame.fit import FlameFit, joined
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
from face4d.mesh.frames import Frames, check_sequence, open_frames
from face4d.mesh.plausibility import as_float32, check_face, check_frames, face_remarks, report
from face4d.mesh.ply import write_ply
from face4d.mesh.triangles import OtherTopologyError
from face4d.runtime.arrays import load_npz, load_numbers
from face4d.runtime.atomic import replacing_folder

PARAMETER_FILE = "flame_parameters.npz"
_WRITTEN = (PARAMETER_FILE, "fitted.ply", "fitted.npy", "fitted_[0-9][0-9][0-9][0-9]*.ply")  # by an earlier fit


def vertices_to_fit(path: Path, model: FlameModel, folder: Path) -> Frames:
    """A sequence of vertices in the model's topology, all of it looked at once.

    Args:
        path: PLY or OBJ, a folder of numbered frames, or an npy (T, V, 3).
        folder: of the model's landmark embeddings, by which the first frame is checked further where they are there.

    Raises:
        InputError: meshes that cannot be read, of another topology, no heads in metres, or that jump.
    """
    try:
        frames = open_frames(path, model.num_vertices, model.faces, "the model's topology")
    except OtherTopologyError as error:
        output = f"{path.stem}_registered{'' if path.is_dir() else '.ply'}"
        command = shlex.join(
            ["python", "Reconstruction/register.py", str(path), "--output", output, "--flame", str(folder)]
        )
        ways = f"or --landmark-embedding, or first: {command}"
        raise InputError(error.path, f"{error.expected} {ways}", error.found) from None
    if all((folder / name).is_file() for name in (STATIC_FILE, DYNAMIC_FILE, TEMPLATE_FILE)):
        # sees more than sizes, a mirrored head for one
        check_mesh(frames.names[0], frames.read(0, 1)[0], frames.faces, load_flame_embedding(folder))
    check_sequence(frames)
    return frames


def landmarks_of_meshes(path: Path, embedding: Path) -> Frames:
    """The landmarks (T, 68, 3) of meshes of another topology, all of them looked at once.

    Args:
        path: PLY or OBJ, a folder of numbered frames, or an npy (T, V, 3).
        embedding: npz of the meshes' own landmarks.

    Raises:
        InputError: meshes that cannot be read, of another topology, no heads in metres, or that jump.
    """
    own = load_embedding(embedding)
    frames = open_frames(path, own.num_vertices, own.faces, "the topology of the landmarks")
    landmarks = check_mesh(frames.names[0], frames.read(0, 1)[0], frames.faces, own)
    report(path, mesh_remarks(str(path), frames.faces, landmarks))
    check_sequence(frames)
    return replace(frames, vertices=NUM_LANDMARKS, read=lambda start, stop: extract(own, frames.read(start, stop)))


def landmarks_to_fit(path: Path) -> Frames:
    """Landmarks (T, 68, 3) or (68, 3) in metres of an npy file.

    Raises:
        InputError: another content, or no faces in metres.
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
    found = as_float32(path, landmarks.reshape(-1, NUM_LANDMARKS, 3))
    check_face(path, found)
    check_frames(path, found)
    report(path, face_remarks(str(path), found[0]))
    names = [f"{path}, frame {frame}" for frame in range(len(found))]
    return Frames(path, names, NUM_LANDMARKS, np.zeros((0, 3), np.int32), lambda start, stop: found[start:stop])


def write_fit(
    output: Path, parts: Iterable[FlameFit], frames: int, faces: np.ndarray, meshes: str = "ply"
) -> tuple[list[Path], np.ndarray]:
    """Write the parameters and the fitted meshes of a sequence, part by part; the folder appears when it is whole.

    What an earlier fit wrote into the folder is removed, other files stay.

    Args:
        output: the folder.
        parts: of the sequence, one after the other.
        frames: in all of them.
        faces: (F, 3).
        meshes: ``ply``, one per frame; ``npy``, all in one; or ``none``.

    Returns:
        Paths, meshes as one when there are many; (T, 2) mean and largest distance of each frame's points, millimetres.
    """
    parameters, distances = [], []
    with replacing_folder(output, [old.name for pattern in _WRITTEN for old in output.glob(pattern)]) as folder:
        done = 0
        for part in parts:
            if meshes == "npy" and not done:
                shape = (frames, *part.vertices.shape[1:])
                whole = np.lib.format.open_memmap(folder / "fitted.npy", "w+", np.float32, shape)
            for frame, vertices in enumerate(part.vertices, done):
                if meshes == "npy":
                    whole[frame] = vertices
                elif meshes == "ply":
                    write_ply(folder / ("fitted.ply" if frames == 1 else f"fitted_{frame:04d}.ply"), vertices, faces)
            done += len(part.vertices)
            parameters.append(part.parameters)
            distances.append(np.stack([part.residuals.mean(axis=1), part.residuals.max(axis=1)], axis=1))
        residuals = np.concatenate(distances)
        arrays: dict[str, Any] = {**joined(parameters), "residual_mm": residuals[:, 0]}
        np.savez(folder / PARAMETER_FILE, **arrays)
    return [output / PARAMETER_FILE, output / "fitted.ply" if meshes == "ply" and frames == 1 else output], residuals


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
