"""Meshes with colour: OBJ with a texture picture or a colour per vertex, PLY with a colour per vertex."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.ply import face_rows
from face4d.runtime.atomic import write_bytes, write_text


def write_textured_obj(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    uv_points: np.ndarray,
    uv_faces: np.ndarray,
    texture: str | Path,
) -> list[Path]:
    """Write ``<path>.obj`` and the ``.mtl`` beside it, which names the picture; vertex order is kept, seams are cut in
    the texture only.

    Args:
        vertices: (V, 3) metres.
        faces, uv_faces: (F, 3) rows of ``vertices`` and of ``uv_points``.
        uv_points: (U, 2) in 0..1, v upwards.
        texture: the picture, in the folder of ``path`` or below it.

    Returns:
        The two files written.

    Raises:
        InputError: coordinates that are not finite.
    """
    path, texture = Path(path), Path(texture)
    if not np.isfinite(vertices).all():
        raise InputError(path, "finite vertex coordinates", "NaN or infinity")
    material = path.with_suffix(".mtl")
    corners = np.stack([faces, uv_faces], axis=2) + 1  # (F, 3, 2)
    lines = [
        f"mtllib {material.name}\nusemtl face\n",
        "v %.8f %.8f %.8f\n" * len(vertices) % tuple(np.asarray(vertices, np.float64).ravel()),
        "vt %.6f %.6f\n" * len(uv_points) % tuple(np.asarray(uv_points, np.float64).ravel()),
        "f %d/%d %d/%d %d/%d\n" * len(faces) % tuple(corners.ravel()),
    ]
    name = texture.relative_to(path.parent) if texture.is_relative_to(path.parent) else texture
    write_text(material, f"newmtl face\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {name.as_posix()}\n")
    write_text(path, "".join(lines))
    return [path, material]


def write_coloured_ply(path: str | Path, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> Path:
    """Write a binary PLY with a colour per vertex.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3).
        colours: (V, 3) sRGB in 0..1, rounded to 8 bits.

    Raises:
        InputError: coordinates that are not finite.
    """
    if not np.isfinite(vertices).all():
        raise InputError(path, "finite vertex coordinates", "NaN or infinity")
    rows = np.empty(len(vertices), dtype=[("place", "<f4", 3), ("colour", "u1", 3)])
    rows["place"] = vertices
    rows["colour"] = (np.clip(colours, 0, 1) * 255).round()
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    write_bytes(path, b"".join((header.encode("ascii"), rows.tobytes(), face_rows(faces))))
    return Path(path)


def write_coloured_obj(path: str | Path, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> Path:
    """Write an OBJ whose ``v`` lines end with a colour, as MeshLab, Blender and trimesh read it.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
        colours: (V, 3) sRGB in 0..1.

    Raises:
        InputError: coordinates that are not finite.
    """
    if not np.isfinite(vertices).all():
        raise InputError(path, "finite vertex coordinates", "NaN or infinity")
    rows = np.concatenate([np.asarray(vertices, np.float64), np.clip(colours, 0, 1)], axis=1)
    text = "v %.6f %.6f %.6f %.4f %.4f %.4f\n" * len(rows) % tuple(rows.ravel())
    write_text(path, text + "f %d %d %d\n" * len(faces) % tuple((np.asarray(faces, np.int64) + 1).ravel()))
    return Path(path)
