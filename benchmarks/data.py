"""Data of real size, made in code: a head with FLAME's 5023 vertices and 9976 faces, its motion, and files of it.
Nothing licensed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.demo.flame import dynamic_embedding, static_embedding
from face4d.demo.head import demo_head
from face4d.demo.write import demo_sequence
from face4d.landmarks import LandmarkEmbedding, extract
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply

VERTICES, FACES = 5023, 9976
SEED = 27


def head_in_motion(frames: int, label: str = "mouth-open") -> tuple[np.ndarray, np.ndarray]:
    """(T, 5023, 3) float32 metres and faces (9976, 3).

    The demo head at level 1 (3627 vertices) with a vertex in the middle of 1396 of its faces; its first faces come
    twice to fill up to FLAME's number.
    """
    head = demo_head(1)
    vertices = demo_sequence(head, SEED, 0, label, max(frames, 3))[:frames].astype(np.float32)
    split = np.sort(np.random.default_rng(SEED).permutation(len(head.faces))[: VERTICES - vertices.shape[1]])
    middles = vertices[:, head.faces[split]].mean(axis=2)
    a, b, c = head.faces[split].T
    new = vertices.shape[1] + np.arange(len(split))
    faces = head.faces.copy()
    faces[split] = np.stack([a, b, new], axis=1)
    faces = np.concatenate([faces, np.stack([b, c, new], axis=1), np.stack([c, a, new], axis=1)])
    faces = np.concatenate([faces, faces[: FACES - len(faces)]]).astype(np.int32)
    return np.concatenate([vertices, middles], axis=1), faces


def manifold_head(tiny: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(5023, 3) metres and faces: the demo head as above but no face twice, so that it is a surface; tiny: 871
    vertices.
    """
    if tiny:
        return demo_head(0).mean, demo_head(0).faces
    vertices, faces = head_in_motion(1)
    return vertices[0].astype(np.float64), np.unique(faces, axis=0)


def embedding(faces: np.ndarray) -> LandmarkEmbedding:
    """68 random points of the mesh; where they lie does not change the time."""
    rng = np.random.default_rng(SEED)
    return LandmarkEmbedding(rng.integers(0, len(faces), 68), rng.dirichlet([1, 1, 1], 68), faces, VERTICES)


def face_landmarks(frames: int, label: str = "mouth-open") -> np.ndarray:
    """(T, 68, 3) float32 metres: the demo face's own landmarks in motion."""
    head = demo_head(1)
    vertices = demo_sequence(head, SEED, 0, label, max(frames, 3))[:frames]
    contour, static = dynamic_embedding(head), static_embedding(head)
    face_idx, bary = np.concatenate([contour[0][0], static[0]]), np.concatenate([contour[1][0], static[1]])
    return extract(LandmarkEmbedding(face_idx, bary, head.faces, len(head.mean)), vertices).astype(np.float32)


def write_meshes(folder: Path, frames: int, suffix: str) -> tuple[list[Path], np.ndarray]:
    """Numbered frames of the moving head; returns paths and faces. A long sequence goes to and fro over 120 frames."""
    vertices, faces = head_in_motion(min(frames, 120))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{folder.name}.{number:06d}{suffix}" for number in range(frames)]
    for number, path in enumerate(paths):
        (write_obj if suffix == ".obj" else write_ply)(path, vertices[number % len(vertices)], faces)
    return paths, faces


def landmarks_in_motion(sequences: int, frames: int) -> np.ndarray:
    """(N, T, 68, 3) float32 displacements in metres: smooth, frame 0 zero, a few millimetres large."""
    rng = np.random.default_rng(SEED)
    rise = np.sin(np.pi * np.arange(frames) / max(frames - 1, 1))[None, :, None, None]
    return (rise * rng.normal(0, 3e-3, (sequences, 1, 68, 3))).astype(np.float32)
