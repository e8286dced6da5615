"""PLY: every encoding gives the same mesh in the same order; broken files give one clear error."""

import errno
from pathlib import Path

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh import ply

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, -2.25], [9, 9, 9]], np.float32)  # the last one is in no face
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3]], np.int32)
HEADER = "ply\nformat {}\ncomment made by hand\nelement vertex {}\n{}element face {}\n{}end_header\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"
INDICES = "property list uchar int vertex_indices\n"


def _binary_body(order: str, faces=FACES) -> bytes:
    body = VERTICES.astype(order + "f4").tobytes()
    for face in faces:
        body += np.uint8(len(face)).tobytes() + np.asarray(face, order + "i4").tobytes()
    return body


def test_write_then_read_is_exact(tmp_path):
    ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    vertices, faces = ply.read_ply(tmp_path / "a.ply")
    assert (vertices.dtype, faces.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(faces, FACES)
    assert vertices.flags.writeable and ply.read_ply_vertices(tmp_path / "a.ply").flags.writeable


@pytest.mark.parametrize(("name", "order"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
def test_byte_orders(tmp_path, name, order):
    path = tmp_path / "a.ply"
    path.write_bytes(HEADER.format(name + " 1.0", 5, XYZ, 3, INDICES).encode() + _binary_body(order))
    np.testing.assert_array_equal(ply.read_ply(path)[0], VERTICES)
    np.testing.assert_array_equal(ply.read_ply(path)[1], FACES)
    np.testing.assert_array_equal(ply.read_ply_vertices(path, 5), VERTICES)


def test_ascii_with_crlf_colours_and_a_quad(tmp_path):
    properties = "property uchar red\nproperty double z\nproperty double y\nproperty double x\n"
    text = HEADER.format("ascii 1.0", 5, properties, 2, "property list uint8 uint32 vertex_index\n")
    text += "".join(f"7 {z:.9g} {y:.9g} {x:.9g}\n" for x, y, z in VERTICES) + "4 0 1 2 3\n3 1 2 3\n"
    (tmp_path / "a.ply").write_bytes(text.replace("\n", "\r\n").encode())
    vertices, faces = ply.read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3], [1, 2, 3]])


def test_extra_properties_elements_and_mixed_polygons_in_binary(tmp_path):
    vertex = np.zeros(5, [("nx", "<f8"), ("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("a", "u1")])
    vertex["x"], vertex["y"], vertex["z"], vertex["a"] = *VERTICES.T, 9
    header = (
        "ply\nformat binary_little_endian 1.0\nelement camera 1\nproperty short id\nelement vertex 5\nproperty double nx\nproperty double x\n"
        "property double y\nproperty double z\nproperty uchar a\nelement face 2\nproperty uchar flag\n"
        "property list uint ushort vertex_indices\nproperty list uchar float uv\nend_header\n"
    )
    quad = b"\1" + np.uint32(4).tobytes() + np.array([0, 1, 2, 3], "<u2").tobytes() + b"\2" + np.zeros(2, "<f4").tobytes()
    triangle = b"\1" + np.uint32(3).tobytes() + np.array([1, 2, 3], "<u2").tobytes() + b"\0"
    (tmp_path / "a.ply").write_bytes(header.encode() + b"\5\0" + vertex.tobytes() + quad + triangle)
    vertices, faces = ply.read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3], [1, 2, 3]])


def test_same_mesh_as_trimesh(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    peer = trimesh.load(tmp_path / "a.ply", process=False, maintain_order=True)
    np.testing.assert_array_equal(np.asarray(peer.faces), FACES)
    np.testing.assert_array_equal(np.asarray(peer.vertices, np.float32), VERTICES)
    peer.export(tmp_path / "b.ply", encoding="ascii")
    np.testing.assert_allclose(ply.read_ply(tmp_path / "b.ply")[0], VERTICES, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"solid stl", "first line 'ply'"),
        (b"ply\nformat ascii 1.0\n", "no end_header"),
        (b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n", "no vertices"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n", "without x, y, z"),
        (b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "'element vertex many'"),
        (HEADER.format("ascii 1.0", 1, XYZ, 0, INDICES).encode() + b"0 zero 0\n", "zero"),
        (HEADER.format("ascii 1.0", 2, XYZ, 0, INDICES).encode() + b"0 0 0\n", "cut short"),
        (HEADER.format("ascii 1.0", 1, XYZ, 1, INDICES).encode() + b"0 0 0\n3 0 0 1\n", "0 to 0, found 1"),
        (HEADER.format("ascii 1.0", 1, XYZ, 1, INDICES).encode() + b"0 0 0\n2 0 0\n", "three corners"),
    ],
)
def test_not_a_mesh(tmp_path, content, message):
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        ply.read_ply(tmp_path / "bad.ply")
    assert str(tmp_path / "bad.ply") in str(error.value)


@pytest.mark.parametrize("read", [ply.read_ply, ply.read_ply_vertices])
def test_any_truncation_of_a_binary_file_is_an_error(tmp_path, read):
    ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    whole = (tmp_path / "a.ply").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a.ply").write_bytes(whole[:length])
        with pytest.raises(InputError, match="a.ply: expected"):
            read(tmp_path / "a.ply")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("read", [ply.read_ply, ply.read_ply_vertices])
def test_non_finite_vertices_name_the_vertex(tmp_path, read, value):
    ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    data = bytearray((tmp_path / "a.ply").read_bytes())
    start = data.index(b"end_header\n") + 11
    data[start + 3 * 12 : start + 3 * 12 + 4] = np.float32(value).tobytes()
    (tmp_path / "a.ply").write_bytes(data)
    with pytest.raises(InputError, match="at vertex 3"):
        read(tmp_path / "a.ply")


def test_other_vertex_count_missing_file_and_folder(tmp_path):
    ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    with pytest.raises(InputError, match="expected 7 vertices, found 5"):
        ply.read_ply_vertices(tmp_path / "a.ply", 7)
    for read in (ply.read_ply, ply.read_ply_vertices):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "none.ply")
        with pytest.raises(InputError, match="folder"):
            read(tmp_path)


def test_files_larger_than_the_first_read(tmp_path):
    many = np.random.default_rng(0).standard_normal((9000, 3)).astype(np.float32)
    for name in "ab":  # the second one uses what was learnt from the first
        ply.write_ply(tmp_path / f"{name}.ply", many, FACES)
        np.testing.assert_array_equal(ply.read_ply_vertices(tmp_path / f"{name}.ply", copy=False), many)


def test_write_refuses_bad_arrays_and_leaves_the_old_file(tmp_path):
    ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    before = (tmp_path / "a.ply").read_bytes()
    for vertices, faces in [(VERTICES[:, :2], FACES), (VERTICES[:3], FACES), (VERTICES * np.nan, FACES), (VERTICES.astype(float) * 1e39, FACES)]:
        with pytest.raises(ValueError):
            ply.write_ply(tmp_path / "a.ply", vertices, faces)
    assert (tmp_path / "a.ply").read_bytes() == before


def test_full_disk_leaves_no_trace_and_names_the_file(tmp_path, monkeypatch):
    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as error:
        ply.write_ply(tmp_path / "a.ply", VERTICES, FACES)
    assert error.value.filename == str(tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []
