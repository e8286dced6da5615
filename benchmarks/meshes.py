"""Data preparation: OBJ to PLY, resampling, landmarks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import data
import numpy as np
import trimesh
from measure import Case, Size, best_seconds

from face4d.datasets.extraction import resampled_landmarks
from face4d.datasets.sampling import Resampling, sample_tree
from face4d.landmarks import LandmarkEmbedding, extract_files
from face4d.mesh.conversion import convert_tree
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import read_ply, read_ply_vertices
from face4d.runtime.incremental import WriteOptions

COMA_LENGTH, FRAMES = 116, 41  # frames of a CoMA sequence, before and after


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="face4d-benchmark-"))  # inside the worker's own temporary folder


def obj_to_ply(size: Size) -> Case:
    root = _folder()
    paths, _ = data.write_meshes(root / "obj" / "S01" / "Happy", size.of(30, 2), ".obj")
    target = root / "ply"

    def baseline() -> None:
        target.mkdir()
        for path in paths:
            _loaded(path).export(target / (path.stem + ".ply"))

    ours = target / "S01" / "Happy"
    convert_tree(root / "obj", target, WriteOptions(quiet=True))
    contents = [path.read_bytes() for path in sorted(ours.iterdir())]

    def move_bytes() -> None:
        for path, content in zip(paths, contents):
            path.read_bytes()
            (root / "copy").write_bytes(content)

    return Case(
        "mesh",
        lambda: convert_tree(root / "obj", target, WriteOptions(quiet=True)),
        baseline,
        len(paths),
        len(paths),
        "trimesh.load, export",
        lambda: best_seconds(move_bytes) / len(paths),
        "read the OBJ, write the PLY bytes (no parsing)",
        1.6e-3,
        settle=lambda: shutil.rmtree(target, ignore_errors=True),
    )


def _coma(size: Size) -> tuple[Path, list[list[Path]], np.ndarray]:
    """Raw sequences below a root: paths per sequence, faces."""
    root = _folder()
    length = 8 if size.tiny else COMA_LENGTH
    sequences, faces = [], np.empty(0)
    for number in range(size.scale):
        paths, faces = data.write_meshes(root / "raw" / f"S{number:02d}" / "mouth_open", length, ".ply")
        sequences.append(paths)
    return root, sequences, faces


def _loaded(path: Path) -> Any:
    """A mesh by trimesh, its vertices as they are in the file."""
    return trimesh.load(path, process=False, maintain_order=True)


def _naive_resampling(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    meshes = [_loaded(path) for path in paths]
    vertices = np.stack([mesh.vertices for mesh in meshes])
    times = np.linspace(0, len(vertices) - 1, FRAMES)
    left = np.minimum(times.astype(int), len(vertices) - 2)
    share = (times - left)[:, None, None]
    return (1 - share) * vertices[left] + share * vertices[left + 1], meshes[0].faces


def resample(size: Size) -> Case:
    root, sequences, _ = _coma(size)
    target = root / "sampling"

    def baseline() -> None:
        for paths in sequences:
            frames, faces = _naive_resampling(paths)
            folder = target / paths[0].parent.parent.name / "mouth_open"
            folder.mkdir(parents=True)
            for number, vertices in enumerate(frames):
                trimesh.Trimesh(vertices, faces, process=False).export(folder / f"mouth_open.{number:06d}.ply")

    content = sequences[0][0].read_bytes()

    def move_bytes() -> None:
        for path in sequences[0]:
            with open(path, "rb", buffering=0) as file:
                file.read(12 * data.VERTICES)
        for number in range(FRAMES):
            (root / f"copy{number}").write_bytes(content)

    return Case(
        "sequence",
        lambda: sample_tree(root / "raw", target, Resampling(FRAMES), WriteOptions(quiet=True)),
        baseline,
        size.scale,
        size.scale,
        "trimesh.load of all, numpy, trimesh export",
        lambda: best_seconds(move_bytes),
        "read all vertices, write 41 PLY files",
        14e-3,
        settle=lambda: shutil.rmtree(target, ignore_errors=True),
    )


def _template_landmarks(template: Path, embedding: LandmarkEmbedding, vertices: np.ndarray) -> np.ndarray:
    """The straightforward way: the template is loaded again for each frame."""
    faces = _loaded(template).faces
    return np.einsum("lkd,lk->ld", vertices[faces[embedding.face_idx]], embedding.bary)


def _trimesh_landmarks(embedding: LandmarkEmbedding, paths: list[Path]) -> np.ndarray:
    """The sensible loop: the embedding is in memory, every mesh is loaded once by trimesh, three corners are weighted
    by numpy.
    """
    corners = embedding.faces[embedding.face_idx]
    vertices = (_loaded(path).vertices for path in paths)
    return np.stack([np.einsum("lkd,lk->ld", frame[corners], embedding.bary) for frame in vertices])


def _template(root: Path, paths: list[Path]) -> Path:
    vertices, faces = read_ply(paths[0])
    write_obj(root / "template.obj", vertices, faces)
    return root / "template.obj"


def straight_to_landmarks(size: Size) -> Case:
    root, sequences, faces = _coma(size)
    embedding, template = data.embedding(faces), _template(root, sequences[0])

    def baseline() -> None:
        for paths in sequences[:1]:
            for vertices in _naive_resampling(paths)[0]:
                _template_landmarks(template, embedding, vertices)

    def sensible() -> None:
        frames, _ = _naive_resampling(sequences[0])
        np.einsum("tlkd,lk->tld", frames[:, embedding.faces[embedding.face_idx]], embedding.bary)

    def read_bytes() -> None:
        for path in sequences[0]:
            with open(path, "rb", buffering=0) as file:
                file.read(12 * data.VERTICES)

    return Case(
        "sequence",
        lambda: [resampled_landmarks(embedding, paths[0].parent, Resampling(FRAMES)) for paths in sequences],
        baseline,
        size.scale,
        1,
        "trimesh.load of all, template loaded per frame",
        lambda: best_seconds(read_bytes),
        "open and read the vertices of all frames",
        2e-3,
        sensible=sensible,
        sensible_is="trimesh.load of all, embedding in memory, numpy",
    )


def landmarks(size: Size) -> Case:
    root, sequences, faces = _coma(size)
    embedding, template = data.embedding(faces), _template(root, sequences[0])
    paths = [path for sequence in sequences for path in sequence]
    few = paths[:20]

    def baseline() -> None:
        for path in few:
            _template_landmarks(template, embedding, _loaded(path).vertices)

    return Case(
        "frame",
        lambda: extract_files(embedding, paths),
        baseline,
        len(paths),
        len(few),
        "trimesh.load of mesh and template per frame",
        lambda: best_seconds(lambda: [read_ply_vertices(path, copy=False) for path in paths]) / len(paths),
        "read and check the vertices",
        30e-6,
        sensible=lambda: _trimesh_landmarks(embedding, paths),
        sensible_units=len(paths),
        sensible_is="trimesh.load of every mesh, embedding in memory, numpy",
    )
