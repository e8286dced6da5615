"""Meshes with colour: OBJ with a texture picture or a colour per vertex, PLY with a colour per vertex; written, and
their colours read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.obj import coordinates, read_text, statements
from face4d.mesh.ply import face_rows, read_vertex_columns
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
    """Write the file of :func:`coloured_ply_bytes`.

    Raises:
        InputError: coordinates that are not finite.
    """
    if not np.isfinite(vertices).all():
        raise InputError(path, "finite vertex coordinates", "NaN or infinity")
    write_bytes(path, coloured_ply_bytes(vertices, faces, colours))
    return Path(path)


def coloured_ply_bytes(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> bytes:
    """Content of a binary PLY file with a colour per vertex.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3).
        colours: (V, 3) sRGB in 0..1, rounded to 8 bits.
    """
    rows = np.empty(len(vertices), dtype=[("place", "<f4", 3), ("colour", "u1", 3)])
    rows["place"] = vertices
    rows["colour"] = (np.clip(colours, 0, 1) * 255).round()
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return b"".join((header.encode("ascii"), rows.tobytes(), face_rows(faces)))


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


def read_vertex_colours(path: str | Path) -> np.ndarray | None:
    """The colours (V, 3) that a PLY or OBJ file has for its vertices, sRGB in 0..1; None where it has none.

    In a PLY file they are the vertices' ``red``, ``green``, ``blue``: whole numbers up to 255 or 65535, or fractions.
    In an OBJ file they follow the three coordinates, as fractions, on every ``v`` line.

    Raises:
        InputError: a file that is neither or is cut short; colours outside of their range, or of some vertices only.
    """
    if Path(path).suffix.lower() == ".obj":
        words = [(number, words) for number, words in statements(path, read_text(path)) if words[0] == b"v"]
        coloured = [len(line) == 7 for _, line in words]
        if not any(coloured):
            return None
        if not all(coloured):
            raise InputError(path, "a colour for every vertex, or for none", f"{sum(coloured)} of {len(coloured)}")
        colours = np.array([coordinates(path, number, line[3:], 3) for number, line in words])
    else:
        found = read_vertex_columns(path, ("red", "green", "blue"))
        if found is None:
            return None
        colours = found / np.iinfo(found.dtype).max if found.dtype.kind in "iu" else found.astype(float)
    low, high = float(colours.min(initial=0)), float(colours.max(initial=0))
    if not (low >= 0 and high <= 1):  # false for NaN, too
        raise InputError(
            path, "colours of vertices from 0 to 1 (PLY: whole numbers, or from 0 to 1)", f"{low} to {high}"
        )
    return colours


def find_texture(path: str | Path) -> Path | None:
    """The picture of an OBJ file's first material that has one (``mtllib``, ``map_Kd``); None where there is none in
    the folder of the OBJ file or below it.
    """
    folder = Path(path).resolve().parent
    for _, words in statements(path, read_text(path)):
        if words[0] == b"v":
            return None  # materials come before what they colour
        if words[0] == b"mtllib" and (material := _within(folder, words[1:])):
            maps = (line for _, line in statements(material, read_text(material)) if line[0] == b"map_Kd")
            return next((picture for line in maps if (picture := _within(folder, line[1:]))), None)
    return None


def _within(folder: Path, words: list[bytes]) -> Path | None:
    """The file of that name below the folder, never one elsewhere; None where there is none."""
    path = (folder / b" ".join(words).decode("utf-8", "replace").replace("\\", "/")).resolve()
    return path if path.is_relative_to(folder) and path.is_file() else None
