"""Neutral faces of subjects: the meshes that landmark displacements are measured from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract
from face4d.mesh.sequence import read_mesh
from face4d.runtime.safe_pickle import load_numbers


def neutral_landmarks(path: str | Path, embedding: LandmarkEmbedding) -> np.ndarray:
    """Landmarks of one neutral face.

    Args:
        path: a PLY or OBJ mesh of the embedding's topology, metres.

    Returns:
        (68, 3) float32, metres.

    Raises:
        InputError: unreadable, or of another topology.
    """
    vertices, _ = read_mesh(path)
    if len(vertices) != embedding.num_vertices:
        raise InputError(path, f"{embedding.num_vertices} vertices as in the landmark embedding", f"{len(vertices)}")
    return extract(embedding, vertices).astype(np.float32)


def load_actors(folder: str | Path, embedding: LandmarkEmbedding) -> dict[str, np.ndarray]:
    """Neutral landmarks of every ``<subject>.ply`` or ``<subject>.obj`` in ``folder``.

    Returns:
        (68, 3) float32, metres, by subject.

    Raises:
        InputError: missing or empty folder, or a bad mesh.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "a folder of <subject>.ply neutral meshes", "no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".ply", ".obj") and not path.name.startswith("."))
    if not paths:
        raise InputError(folder, "<subject>.ply neutral meshes", "none")
    return {path.stem: neutral_landmarks(path, embedding) for path in paths}


def actor_path(folder: str | Path, subject: str) -> Path:
    """The neutral mesh ``<subject>.ply`` or ``<subject>.obj`` in ``folder``.

    Raises:
        InputError: neither is there.
    """
    for suffix in (".ply", ".obj"):
        if (path := Path(folder) / f"{subject}{suffix}").is_file():
            return path
    raise InputError(folder, f"the neutral mesh {subject}.ply (or .obj)", "none of that name")


def read_points(path: str | Path) -> np.ndarray:
    """Landmarks of one neutral face from a (68, 3) ``.npy`` file, metres.

    Raises:
        InputError: not a finite numeric array of that shape.
    """
    expected = f"a ({NUM_LANDMARKS}, 3) array of finite numbers"
    points = load_numbers(path, expected)
    if points.shape != (NUM_LANDMARKS, 3) or not np.isfinite(points).all():
        raise InputError(path, expected, f"shape {points.shape} of {points.dtype}")
    return points.astype(np.float32)
