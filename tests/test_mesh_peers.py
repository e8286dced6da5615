"""PLY and OBJ readers beside trimesh, and beside readers of a few plain lines, on files made by hypothesis."""

import io
import itertools
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from face4d.errors import InputError
from face4d.mesh import obj, ply
from tests.fuzzing import obj as obj_files
from tests.fuzzing import ply as ply_files
from tests.fuzzing.mutations import mutated

many = settings(
    max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
CODES = dict(zip(["char", "uchar", "short", "ushort", "int", "uint", "float", "double"], "bBhHiIfd"))


def fans(polygons):
    return [[polygon[0], polygon[k], polygon[k + 1]] for polygon in polygons for k in range(1, len(polygon) - 1)]


def strip(corners):
    """Triangles of a strip without -1 and without those that have a corner twice."""
    triples = [corners[k : k + 3] for k in range(len(corners) - 2)]
    return [[b, a, c] if k % 2 else [a, b, c] for k, (a, b, c) in enumerate(triples) if len({a, b, c}) == 3]


def plain_obj(content):
    """Vertices and triangles of a valid OBJ file."""
    vertices, polygons = [], []
    for line in content.decode("ascii").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(word) for word in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) for word in words[1:]]
            polygons.append([corner - 1 if corner > 0 else len(vertices) + corner for corner in corners])
    return vertices, fans(polygons)


def plain_ply(content):
    """Vertices and triangles of a valid PLY file."""
    end = b"\r\n" if content[3:5] == b"\r\n" else content[3:4]
    header, _, body = content.partition(end + b"end_header" + end)
    lines = [line.split() for line in header.decode("latin1").split(end.decode())]
    order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[
        next(words[1] for words in lines if words[0] == "format")
    ]
    words, place = iter(body.split()), 0

    def number(kind):
        nonlocal place
        if order is None:
            return float(next(words))
        place += struct.calcsize(order + CODES[kind])
        return struct.unpack_from(order + CODES[kind], body, place - struct.calcsize(order + CODES[kind]))[0]

    rows, element = {}, None
    for line in lines:
        if line[0] == "element":
            rows[line[1]] = element = (int(line[2]), [])
        elif line[0] == "property":
            element[1].append(line[1:])
    for name, (count, properties) in rows.items():
        rows[name] = [
            {
                p[-1]: [number(p[2]) for _ in range(int(number(p[1])))] if p[0] == "list" else number(p[0])
                for p in properties
            }
            for _ in range(count)
        ]
    triangles = {"face": [], "tristrips": []}
    for name in rows:
        for row in rows[name] if name in triangles else ():
            corners = list(map(int, row["vertex_indices"]))
            if name == "face":
                triangles[name] += fans([corners])
                continue
            cuts = [-1, *(k for k, corner in enumerate(corners) if corner == -1), len(corners)]
            for a, b in itertools.pairwise(cuts):
                triangles[name] += strip(corners[a + 1 : b])
    faces = list(itertools.chain.from_iterable(triangles[name] for name in rows if name in triangles))
    return [[row[axis] for axis in "xyz"] for row in rows["vertex"]], faces


def read(module, read_file, content):
    """What a reader makes of a content, without a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_bytes", lambda path, expected: content)
        return read_file("a")


@many
@given(obj_files.files())
def test_obj_as_a_plain_reader_has_it(content):
    vertices, faces = read(obj, obj.read_obj, content)
    assert (vertices.tolist(), faces.tolist()) == plain_obj(content)


@many
@given(ply_files.files())
def test_ply_as_a_plain_reader_has_it(content):
    vertices, faces = read(ply, ply.read_ply, content)
    expected = plain_ply(content)
    np.testing.assert_array_equal(vertices, np.array(expected[0], np.float32))
    assert faces.tolist() == expected[1]


@many
@given(mutated(obj_files.files(), obj_files.WORDS))
def test_obj_read_at_once_and_line_by_line_are_the_same(content):
    def outcome(function):
        try:
            return [part.tolist() for part in read(obj, function, content)]
        except InputError as error:
            return str(error)

    slow = outcome(lambda path: obj._read_lines(path, obj.read_text(path)))
    for _ in range(2):  # the second time, the faces may be known from the first
        assert outcome(obj.read_obj) == slow


@pytest.mark.parametrize(
    ("kind", "files", "module", "read_file"),
    [("obj", obj_files.files(), obj, obj.read_obj), ("ply", ply_files.files(), ply, ply.read_ply)],
    ids=["obj", "ply"],
)
def test_what_trimesh_reads_is_the_same(kind, files, module, read_file):
    """The same vertices in the same order and the same triangles. trimesh reads the faces of one material after those
    of another, so their order may differ; it is not asked where it is known to give up or to give something else: OBJ
    lines that end in CR alone, vertices split at texture seams; PLY lists of differing lengths in binary, 'end_header'
    or bytes that are not UTF-8 in a comment, files without faces."""
    trimesh = pytest.importorskip("trimesh")
    compared = 0

    @settings(many, max_examples=100)
    @given(files)
    def compare(content):
        nonlocal compared
        vertices, faces = read(module, read_file, content)
        try:
            peer = trimesh.load(io.BytesIO(content), file_type=kind, process=False, maintain_order=True)
        except Exception:  # it gives up in many ways
            return
        if isinstance(peer, trimesh.Trimesh) and len(peer.vertices) == len(vertices):
            compared += 1
            np.testing.assert_allclose(peer.vertices, vertices, atol=1e-6)
            assert oriented(peer.faces) == oriented(faces)

    def oriented(faces):
        return sorted(min((a, b, c), (b, c, a), (c, a, b)) for a, b, c in faces.tolist())

    with np.errstate(all="ignore"):
        compare()
    assert compared > 20, compared
