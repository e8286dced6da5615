"""Neutral faces of subjects: the meshes that landmark displacements are measured from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.datasets.layout import require_one_spelling
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, read_head
from face4d.mesh.plausibility import Remark, as_float32, check_face, face_remarks, report
from face4d.runtime.arrays import load_numbers
from face4d.runtime.files import is_hidden, matching, report_passed_over

_MESHES = (".ply", ".obj")  # the first is taken where there are both, as after step 1
_BESIDE = (".mtl", ".png", ".jpg", ".jpeg", ".npy", ".npz", ".json", ".txt", ".md")  # what lies beside meshes: textures, landmarks, notes


def neutral_landmarks(path: str | Path, embedding: LandmarkEmbedding) -> np.ndarray:
    """Landmarks of one neutral face.

    Args:
        path: a PLY or OBJ mesh of the embedding's topology, metres.

    Returns:
        (68, 3) float32, metres.

    Raises:
        InputError: unreadable, or see :func:`face4d.landmarks.check_mesh`.
    """
    return read_head(path, embedding)[1]


def load_actors(folder: str | Path, embedding: LandmarkEmbedding) -> dict[str, np.ndarray]:
    """Neutral landmarks of every ``<subject>.ply`` or ``<subject>.obj`` in ``folder``, in small or capital letters.

    Returns:
        (68, 3) float32, metres, by subject.

    Raises:
        InputError: missing or empty folder, or a bad mesh.
    """
    paths = actor_paths(folder)
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_file() and not is_hidden(path.name))
    report_passed_over(folder, set(names) - set(matching(names, (*_MESHES, *_BESIDE))), "neutral meshes (.ply, .obj)")
    remarks: list[Remark] = []
    found = {subject: read_head(path, embedding, remarks)[1] for subject, path in paths.items()}
    report(folder, remarks)
    return found


def actor_paths(folder: str | Path) -> dict[str, Path]:
    """The neutral meshes of a folder by subject, sorted.

    Raises:
        InputError: missing or empty folder, or two meshes of one kind and subject (``S1.ply``, ``S1.PLY``).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "a folder of <subject>.ply neutral meshes", "no such folder")
    names = sorted(matching((path.name for path in folder.iterdir()), _MESHES))
    found: dict[str, Path] = {}
    for suffix in _MESHES[::-1]:
        of_kind: dict[str, Path] = {}
        for name in matching(names, (suffix,)):
            path = folder / name
            if path.stem in of_kind:
                raise InputError(folder, f"one {suffix} of {path.stem}", f"{of_kind[path.stem].name} and {name}")
            of_kind[path.stem] = path
        found |= of_kind
    if not found:
        raise InputError(folder, "<subject>.ply neutral meshes", "none")
    require_one_spelling(folder, found, "a subject")
    return dict(sorted(found.items()))


def actor_path(folder: str | Path, subject: str) -> Path:
    """The neutral mesh ``<subject>.ply`` or ``<subject>.obj`` in ``folder``.

    Raises:
        InputError: neither is there, or see :func:`actor_paths`.
    """
    found = actor_paths(folder)
    if subject not in found:
        raise InputError(folder, f"the neutral mesh {subject}.ply (or .obj)", f"only {', '.join(path.name for path in found.values())}")
    return found[subject]


def read_points(path: str | Path) -> np.ndarray:
    """Landmarks of one neutral face from a (68, 3) ``.npy`` file, metres.

    Raises:
        InputError: not a finite numeric array of that shape, or no face in metres.
    """
    expected = f"a ({NUM_LANDMARKS}, 3) array of finite numbers"
    points = load_numbers(path, expected)
    if points.shape != (NUM_LANDMARKS, 3):
        raise InputError(path, expected, f"shape {points.shape} of {points.dtype}")
    points = as_float32(path, points)
    check_face(path, points)
    report(path, face_remarks(str(path), points))
    return points
