"""Meshes with colour: every byte and line of small ones."""

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.ply import read_ply
from face4d.mesh.textured import write_coloured_obj, write_coloured_ply, write_textured_obj

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0.125, 1.5, -2.25]])
FACES = np.array([[0, 2, 1]])
COLOURS = np.array([[0, 0.5, 1], [-0.2, 1.4, 0.25], [1, 0.001, 0.003]])


def test_textured_obj_line_by_line(tmp_path):
    texture = tmp_path / "pictures" / "skin.png"
    uv = np.array([[0, 0], [1, 0], [0.5, 0.25], [0.5, 1]])
    written = write_textured_obj(tmp_path / "a.obj", VERTICES, FACES, uv, np.array([[3, 0, 2]]), texture)
    assert written == [tmp_path / "a.obj", tmp_path / "a.mtl"]
    assert written[0].read_text().splitlines() == [
        "mtllib a.mtl",
        "usemtl face",
        "v 0.00000000 0.00000000 0.00000000",
        "v 1.00000000 0.00000000 0.00000000",
        "v 0.12500000 1.50000000 -2.25000000",
        "vt 0.000000 0.000000",
        "vt 1.000000 0.000000",
        "vt 0.500000 0.250000",
        "vt 0.500000 1.000000",
        "f 1/4 3/1 2/3",
    ]
    lines = written[1].read_text().splitlines()
    assert lines[0] == "newmtl face" and lines[-1] == "map_Kd pictures/skin.png"  # from where the mesh lies
    other = write_textured_obj(tmp_path / "b" / "c.obj", VERTICES, FACES, uv, np.array([[3, 0, 2]]), texture)
    assert other[1].read_text().splitlines()[-1] == f"map_Kd {texture.as_posix()}"


def test_coloured_ply_holds_colours_of_eight_bits(tmp_path):
    assert write_coloured_ply(tmp_path / "a.ply", VERTICES, FACES, COLOURS) == tmp_path / "a.ply"
    vertices, faces = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(faces, FACES)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    assert b"element vertex 3\n" in header and b"element face 1\n" in header
    rows = np.frombuffer(body[:45], np.uint8).reshape(3, 15)
    # 0.5, 0.25, 0.001 and 0.003 of 255 are 127.5, 63.75, 0.255 and 0.765; beyond 0..1 is cut
    assert rows[:, 12:].tolist() == [[0, 128, 255], [0, 255, 64], [255, 0, 1]]


def test_coloured_obj_line_by_line(tmp_path):
    path = write_coloured_obj(tmp_path / "a.obj", VERTICES, FACES, COLOURS)
    assert path.read_text().splitlines() == [
        "v 0.000000 0.000000 0.000000 0.0000 0.5000 1.0000",
        "v 1.000000 0.000000 0.000000 0.0000 1.0000 0.2500",
        "v 0.125000 1.500000 -2.250000 1.0000 0.0010 0.0030",
        "f 1 3 2",
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coordinates_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path, bad):
    vertices = VERTICES.copy()
    vertices[1, 2] = bad
    uv = np.zeros((3, 2))
    for write in (
        lambda: write_coloured_ply(tmp_path / "a.ply", vertices, FACES, COLOURS),
        lambda: write_coloured_obj(tmp_path / "a.obj", vertices, FACES, COLOURS),
        lambda: write_textured_obj(tmp_path / "a.obj", vertices, FACES, uv, FACES, tmp_path / "t.png"),
    ):
        with pytest.raises(InputError, match="finite vertex coordinates, found NaN or infinity"):
            write()
    assert not list(tmp_path.iterdir())
