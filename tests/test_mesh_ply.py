"""PLY: every encoding gives the same mesh in the same order; broken files give one clear error."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from face4d.datasets.extraction import PointReader
from face4d.errors import InputError
from face4d.mesh import ply

# the last one is in no face
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, -2.25], [9, 9, 9]], np.float32)
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
        "ply\nformat binary_little_endian 1.0\nelement camera 1\nproperty short id\nelement vertex 5\n"
        "property double nx\nproperty double x\n"
        "property double y\nproperty double z\nproperty uchar a\nelement face 2\nproperty uchar flag\n"
        "property list uint ushort vertex_indices\nproperty list uchar float uv\nend_header\n"
    )
    quad = (
        b"\1" + np.uint32(4).tobytes() + np.array([0, 1, 2, 3], "<u2").tobytes() + b"\2" + np.zeros(2, "<f4").tobytes()
    )
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
        (b"ply\nformat ascii 1.0\nelement face 0\n" + INDICES.encode() + b"end_header\n", "no vertices"),
        (
            HEADER.format("ascii 1.0", 1, XYZ, 0, INDICES).encode().replace(b"ply", b"plz", 1) + b"0 0 0\n",
            "first line 'ply'",
        ),
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


TEXT = (
    "ply\nformat ascii 1.0\n{}element vertex 4\n"
    + XYZ
    + "element face 2\n"
    + INDICES
    + "end_header\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 2 3\n"
)


def _is_the_text(path) -> bool:
    vertices, faces = ply.read_ply(path)
    np.testing.assert_array_equal(ply.read_ply_vertices(path), vertices)
    return vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]] and faces.tolist() == [
        [0, 1, 2],
        [0, 2, 3],
    ]


@pytest.mark.parametrize(
    "comment",
    [b"comment face \x85 01", "comment scanned by Åsa 全景".encode(), b"obj_info \x0b\x0c\x1c\x1d\x1e",
     "comment \u2028 \u2029".encode(), b"comment end_header", b"comment keep end_header below",
     b"COMMENT element vertex 9", b""],
)  # fmt: skip
def test_comments_hold_any_bytes(tmp_path, comment):
    (tmp_path / "a.ply").write_bytes(TEXT.encode().replace(b"{}", comment + b"\n"))
    assert _is_the_text(tmp_path / "a.ply")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    "change",
    [str, str.upper, lambda text: text.replace("end_header", "end_header \t"), lambda text: text.replace(" ", " \t ")],
)
def test_line_ends_marks_and_capital_letters(tmp_path, end, mark, change):
    (tmp_path / "a.ply").write_bytes(mark + change(TEXT.format("comment by hand\n")).replace("\n", end).encode())
    assert _is_the_text(tmp_path / "a.ply")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("first", [b"\n", b"\r", b"\0"])
def test_where_a_binary_body_begins(tmp_path, end, first):
    # the first byte looks like a line end
    vertices = np.frombuffer(first + VERTICES.astype("<f4").tobytes()[1:], "<f4").reshape(-1, 3)
    header = HEADER.format("binary_little_endian 1.0", 5, XYZ, 3, INDICES).encode().replace(b"\n", end)
    (tmp_path / "a.ply").write_bytes(header + vertices.tobytes() + _binary_body("<")[60:])
    np.testing.assert_array_equal(ply.read_ply(tmp_path / "a.ply")[0], vertices)
    np.testing.assert_array_equal(ply.read_ply(tmp_path / "a.ply")[1], FACES)


def test_numbers_count_where_rows_are_broken_over_lines(tmp_path):
    header, body = TEXT.format("").split("end_header\n")
    (tmp_path / "a.ply").write_text(header + "end_header\n" + "\n".join(body.split()))
    assert _is_the_text(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_text(header + "end_header\n" + " ".join(body.split()))
    assert _is_the_text(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_text(header + "end_header\n\n" + body.replace("\n", " \n\n"))
    assert _is_the_text(tmp_path / "a.ply")


def test_columns_that_are_not_declared_are_refused(tmp_path):
    cloud = "ply\nformat ascii 1.0\nelement vertex 4\n" + XYZ + "end_header\n" + "0.1 0.2 0.3 255 128 0\n" * 4
    mesh = TEXT.format("").replace("0 0\n", "0 0 9\n").replace("1 0\n", "1 0 9\n").replace("0 1\n", "0 1 9\n")
    lists = TEXT.format("").replace("3 0 1 2\n", "3 0 1 2 7\n")
    for text, found in ((cloud, "3 numbers in row 0 of element vertex.* found 6"),
                        (mesh, "3 numbers in row 0 of element vertex.* found 4"),
                        (lists, "4 numbers in row 0 of element face.* found 5"),
                        (TEXT.format("") + "3 0 1 3\n", "20 numbers.* found 24")):  # fmt: skip
        (tmp_path / "a.ply").write_text(text)
        for read in (ply.read_ply, ply.read_ply_vertices):
            with pytest.raises(InputError, match=found):
                read(tmp_path / "a.ply")


@pytest.mark.parametrize("properties", [XYZ, XYZ + "property uchar red\n"])
def test_bytes_that_are_not_declared_are_refused(tmp_path, properties):
    body = VERTICES.tobytes() if properties == XYZ else b"".join(row.tobytes() + b"\7" for row in VERTICES)
    data = HEADER.format("binary_little_endian 1.0", 5, properties, 3, INDICES).encode() + body + _binary_body("<")[60:]
    for more in (b"", b"\n", b"\r\n"):
        (tmp_path / "a.ply").write_bytes(data + more)
        np.testing.assert_array_equal(ply.read_ply(tmp_path / "a.ply")[1], FACES)
    (tmp_path / "a.ply").write_bytes(data + b"\7")
    for read in (ply.read_ply, ply.read_ply_vertices):
        with pytest.raises(InputError, match=f"{len(data)} bytes, as the header declares, found {len(data) + 1}"):
            read(tmp_path / "a.ply")


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(
    ("element", "count"),
    [
        ("vertex", 10**12),
        ("face", 10**12),
        ("other", 10**12),
        ("vertex", 10**18 - 1),
        ("face", 10**18),
        ("vertex", 10**400),
    ],
)
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, encoding, element, count):
    counts = {"vertex": 4, "other": 0, "face": 2, element: count}
    header = (
        f"ply\nformat {encoding} 1.0\nelement other {counts['other']}\nproperty list uchar int tags\nelement "
        f"vertex {counts['vertex']}\n{XYZ}"
    )
    (tmp_path / "a.ply").write_text(header + f"element face {counts['face']}\n{INDICES}end_header\n" + "0 0 0\n" * 20)
    for read in (ply.read_ply, ply.read_ply_vertices):
        with pytest.raises(InputError, match="cut short|header line"):
            read(tmp_path / "a.ply")


@pytest.mark.parametrize("count", [-1, 2**31 - 1, -(2**31), 1 << 20])
@pytest.mark.parametrize("others", [0, 1])
def test_lengths_of_lists_are_checked_against_the_file(tmp_path, count, others):
    header = HEADER.format("binary_little_endian 1.0", 5, XYZ, 1 + others, INDICES.replace("uchar", "int")).encode()
    triangle = np.array([3, 0, 1, 2], "<i4").tobytes()
    (tmp_path / "a.ply").write_bytes(
        header + VERTICES.tobytes() + triangle * others + np.array([count, 0], "<i4").tobytes()
    )
    with pytest.raises(InputError, match="a list length|beyond the end"):
        ply.read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("word", ["-1", "2.5", "nan", "inf", "1e400", "1_0", "three", "9" * 400, "3.0"])
def test_lengths_of_lists_in_text(tmp_path, word):
    (tmp_path / "a.ply").write_text(TEXT.format("").replace("3 0 1 2\n", f"{word} 0 1 2\n"))
    if word == "3.0":
        assert _is_the_text(tmp_path / "a.ply")
        return
    with pytest.raises(InputError, match="a list length in element face|numbers behind the header"):
        ply.read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("word", ["1.5", "nan", "inf", "4294967297", "-1", "1e30", "1_0"])
def test_vertex_numbers_are_whole_and_of_the_mesh(tmp_path, word):
    (tmp_path / "a.ply").write_text(
        TEXT.format("").replace("3 0 1 2\n", f"3 0 {word} 2\n").replace("int vertex", "double vertex")
    )
    with pytest.raises(InputError, match="face indices 0 to 3|numbers behind the header"):
        ply.read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e400", "1e39", "-1e308", "1_0", "0x10"])
def test_coordinates_that_are_none(tmp_path, word):
    (tmp_path / "a.ply").write_text(TEXT.format("").replace("1 0 0\n", f"1 {word} 0\n"))
    for read in (ply.read_ply, ply.read_ply_vertices):
        with pytest.raises(InputError, match="finite vertex coordinates|numbers behind the header"):
            read(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("element face", "element vertex", "two elements named vertex"),
        ("element face", "element VERTEX", "two elements named vertex"),
        ("format ascii", "format ascii 1.0\nformat binary_little_endian", "the header line 'format binary"),
        ("list uchar", "list float", "the header line 'property list float"),
        ("list uchar", "lists uchar", "the header line 'property lists uchar"),
        ("list uchar int", "list uchar whole", "the header line 'property list uchar whole"),
        ("uchar int vertex_indices", "uchar int", "the header line 'property list uchar int'"),
        ("float x", "float", "the header line 'property float'"),
        ("float x", "float x first", "the header line 'property float x first'"),
        ("float x", "real x", "the header line 'property real x'"),
        ("vertex 4", "vertex 4 5", "the header line 'element vertex 4 5'"),
        ("format ascii", "format ebcdic", "the header line 'format ebcdic"),
        ("vertex 4", "vertex 1000000000000000000", "the header line 'element vertex 1000000000000000000'"),
        ("vertex 4", "vertex 100000000000000000", "100000000000000000 rows of element vertex"),
        ("list uchar int", "int", "1 numbers in row 0 of element face"),
        ("float x", "list uchar float x", "without x, y, z"),
        ("float y", "float x", "named twice"),
        ("element vertex 4", "property float w", "the header line"),
        ("vertex 4", "vertex \u00b2", "the header line"),
        ("vertex 4", "vertex +4", "the header line"),
        ("vertex_indices", "corners", "only corners"),
        ("end_header", "end_headers", "no end_header"),
    ],
)
def test_headers_that_say_nothing_clear(tmp_path, old, new, found):
    (tmp_path / "a.ply").write_text(TEXT.format("").replace(old, new, 1))
    with pytest.raises(InputError, match=found):
        ply.read_ply(tmp_path / "a.ply")


def test_errors_are_printable_and_short_whatever_the_header_holds(tmp_path):
    for line in (
        b"element \x1b[31mred 999999\nproperty int a",
        b"property float " + b"z" * 50000,
        b"\x1b]0;title\x07",
        b"element vertex " + b"1" * 20000,
    ):
        (tmp_path / "a.ply").write_bytes(TEXT.encode().replace(b"{}", line + b"\n"))
        with pytest.raises(InputError) as error:
            ply.read_ply(tmp_path / "a.ply")
        assert str(error.value).isprintable() and len(str(error.value)) < 600


def test_a_header_ends_within_64_kilobytes(tmp_path):
    for length, whole in ((60_000, True), (70_000, False)):
        (tmp_path / "a.ply").write_text(TEXT.format("comment " + "x" * length + "\n"))
        if whole:
            assert _is_the_text(tmp_path / "a.ply")
        else:
            with pytest.raises(InputError, match="no end_header"):
                ply.read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("kind", ["short", "ushort", "float", "double"])
def test_vertex_numbers_of_any_type(tmp_path, kind):
    """Floats take as many bytes as the integers of the plain layout."""
    code = {"short": "<i2", "ushort": "<u2", "float": "<f4", "double": "<f8"}[kind]
    header = HEADER.format("binary_little_endian 1.0", 5, XYZ, 3, f"property list uchar {kind} vertex_indices\n")
    rows = b"".join(b"\3" + face.astype(code).tobytes() for face in FACES)
    (tmp_path / "a.ply").write_bytes(header.encode() + VERTICES.tobytes() + rows)
    np.testing.assert_array_equal(ply.read_ply(tmp_path / "a.ply")[1], FACES)
    np.testing.assert_array_equal(ply.read_ply_vertices(tmp_path / "a.ply"), VERTICES)


def test_a_quad_that_ends_with_the_file(tmp_path):
    header = HEADER.format("binary_little_endian 1.0", 5, XYZ, 1, INDICES).encode()
    (tmp_path / "a.ply").write_bytes(header + _binary_body("<", [[0, 1, 2, 3]]))
    assert ply.read_ply(tmp_path / "a.ply")[1].tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_elements_without_rows_or_without_properties(tmp_path, encoding):
    for more in ("element face 0\n", "element other 5\nelement face 0\nproperty float x\n"):
        header = f"ply\nformat {encoding} 1.0\nelement vertex 5\n{XYZ}{more}end_header\n".encode()
        text = "".join(f"{x} {y} {z}\n" for x, y, z in VERTICES).encode()
        (tmp_path / "a.ply").write_bytes(header + (text if encoding == "ascii" else VERTICES.tobytes()))
        vertices, faces = ply.read_ply(tmp_path / "a.ply")
        np.testing.assert_array_equal(vertices, VERTICES)
        assert faces.shape == (0, 3)


def test_rows_of_one_number_are_rows(tmp_path):
    """Columns that are not declared are seen beside them, too."""
    text = TEXT.format("element flag 2\nproperty uchar on\n").replace("end_header\n", "end_header\n1\n0\n")
    (tmp_path / "a.ply").write_text(text)
    assert _is_the_text(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_text(
        text.replace("0 0\n", "0 0 9\n").replace("1 0\n", "1 0 9\n").replace("0 1\n", "0 1 9\n")
    )
    with pytest.raises(InputError, match="3 numbers in row 0 of element vertex.* found 4"):
        ply.read_ply(tmp_path / "a.ply")


def test_vertices_may_come_last_and_have_lists(tmp_path):
    header = (
        "ply\nformat {} 1.0\nelement face 2\nproperty uchar flag\n" + INDICES + "element nothing 3\nelement vertex 4\n"
        "property double z\nproperty list uchar short tags\nproperty double y\nproperty double x\nend_header\n"
    )
    rows = [
        (z, tags, y, x) for (x, y, z), tags in zip([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], ([], [7], [8, 9], []))
    ]
    text = "1 3 0 1 2\n0 3 0 2 3\n" + "".join(
        f"{z} {len(tags)} {' '.join(map(str, tags))} {y} {x}\n" for z, tags, y, x in rows
    )
    (tmp_path / "ascii.ply").write_text(header.format("ascii") + text)
    for name, order in (("little", "<"), ("big", ">")):
        body = b"".join(bytes([1, 3]) + np.array(face, order + "i4").tobytes() for face in ([0, 1, 2], [0, 2, 3]))
        for z, tags, y, x in rows:
            body += (
                np.array(z, order + "f8").tobytes()
                + bytes([len(tags)])
                + np.array(tags, order + "i2").tobytes()
                + np.array([y, x], order + "f8").tobytes()
            )
        (tmp_path / f"{name}.ply").write_bytes(header.format(f"binary_{name}_endian").encode() + body)
    for name in ("ascii", "little", "big"):
        assert _is_the_text(tmp_path / f"{name}.ply"), name


@pytest.mark.parametrize("encoding", ["ascii", "binary_big_endian"])
def test_triangle_strips(tmp_path, encoding):
    strips = [[0, 1, 2, 3, -1, 1, 3, 2], [4, 3, 2, 2, 1, 0, 4, -1, 0, 1]]
    # every second one turned round, -1 begins anew
    expected = [[0, 1, 2], [2, 1, 3], [1, 3, 2], [4, 3, 2], [1, 2, 0], [1, 0, 4]]
    header = (
        f"ply\nformat {encoding} 1.0\nelement tristrips 2\nproperty list int int vertex_indices\nelement vertex "
        f"5\n{XYZ}end_header\n"
    )
    if encoding == "ascii":
        body = "".join(" ".join(map(str, [len(strip), *strip])) + "\n" for strip in strips) + "".join(
            f"{x} {y} {z}\n" for x, y, z in VERTICES
        )
        (tmp_path / "a.ply").write_text(header + body)
    else:
        body = (
            b"".join(np.array([len(strip), *strip], ">i4").tobytes() for strip in strips)
            + VERTICES.astype(">f4").tobytes()
        )
        (tmp_path / "a.ply").write_bytes(header.encode() + body)
    vertices, faces = ply.read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(vertices, VERTICES)
    assert faces.tolist() == expected
    (tmp_path / "b.ply").write_bytes((tmp_path / "a.ply").read_bytes().replace(b"8 0 1 2 3", b"8 0 1 -2 3"))
    if encoding == "ascii":
        with pytest.raises(InputError, match="face indices -1 to 4, found -2"):
            ply.read_ply(tmp_path / "b.ply")


def test_a_pipe_is_no_mesh_and_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.ply")
    for read in (
        ply.read_ply,
        ply.read_ply_vertices,
        PointReader(np.arange(3), 5).read,
        PointReader(np.arange(3), 5).check,
    ):
        with pytest.raises(InputError, match="pipe"):
            read(tmp_path / "a.ply")


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
    for vertices, faces in [
        (VERTICES[:, :2], FACES),
        (VERTICES[:3], FACES),
        (VERTICES * np.nan, FACES),
        (VERTICES.astype(float) * 1e39, FACES),
    ]:
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
