"""OBJ: v and f lines in all their spellings, vertex order and count kept; broken lines named."""

import time

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.obj import _block, read_obj, write_obj

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, -0.5], [0, 0, 0]])  # a repeated one, in no face
V_LINES = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in VERTICES)


def _read(tmp_path, text: str):
    (tmp_path / "a.obj").write_bytes(text.encode())
    return read_obj(tmp_path / "a.obj")


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3\nf 1 3 4\n",
        "f 1 2 3\nf 1 3 4",
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n",
        "f 1//1 2//1 3//1\nf 1//1 3//1 4//1\n",
        "f 1/1/1 2/2/1 3/3/1\nf 1/1/1 3/3/1 4/4/1\n",
        "f -5 -4 -3\nf -5 -3 -2\n",
        "f 1 2 3 4\n",
        "f 1 2 \\\n3\nf 1 3 4 # last\n",
        "usemtl skin\ns off\nf 1 2 3\n\ng other\nf 1 3 4\n",
    ],
)
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_spellings_of_faces(tmp_path, faces, eol):
    vertices, triangles = _read(
        tmp_path, (f"# by hand\nmtllib a.mtl\no face\n{V_LINES}vt 0 0\nvn 0 0 1\n{faces}").replace("\n", eol)
    )
    assert (vertices.dtype, triangles.dtype) == (np.float64, np.int32)
    np.testing.assert_array_equal(vertices, VERTICES)
    np.testing.assert_array_equal(triangles, [[0, 1, 2], [0, 2, 3]])


def test_spellings_of_vertices(tmp_path):
    text = "v 1e-3 +2 -.5 1.0\nv\t0.25  1 2\nvn 0 0 1\n  v 3. 4 5 0.1 0.2 0.3\nf 1 2 3\nv 7 8 9\nf -1 -2 -3\n"
    vertices, faces = _read(tmp_path, text)
    np.testing.assert_array_equal(vertices, [[1e-3, 2, -0.5], [0.25, 1, 2], [3, 4, 5], [7, 8, 9]])
    np.testing.assert_array_equal(faces, [[0, 1, 2], [3, 2, 1]])


def test_colours_after_the_coordinates(tmp_path):
    lines = "".join(f"v {x:.4f} {y:.4f} {z:.4f} 0.5 0.25 1.0\n" for x, y, z in VERTICES)
    np.testing.assert_array_equal(_read(tmp_path, lines + "f 1 2 3\n")[0], VERTICES)


SIX = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9], [0.15, 0.25, 0.35], [0.45, 0.55, 0.65], [0.75, 0.85, 0.95]]
SIX_LINES = ["v " + " ".join(f"{x:.6f}" for x in row) for row in SIX]
FOUR_FACES = ["f 1 2 3", "f 3 2 4", "f 3 4 5", "f 5 4 6"]
FOUR = [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(" ", "\t"),
        lambda line: " " + line,
        lambda line: "\t" + line,
        lambda line: line.replace(" ", "  "),
        lambda line: line + " \t",
        lambda line: line.replace(" ", "\x0b"),
        lambda line: line.replace(" ", " \x0c"),
        lambda line: line + " # v f",
        lambda line: line.replace(" ", " \\\n", 2),
    ],
)
def test_any_line_may_be_spaced_in_another_way_than_its_neighbours(tmp_path, change, mark, end):
    lines = ["# by hand", *SIX_LINES, "vt 0.5 0.5", *FOUR_FACES]
    for chosen in [{k} for k in range(1, len(lines))] + [
        set(range(len(lines))),
        {1, 6},
        {8, 9},
        {7, 11},
        set(range(8, 12)),
    ]:
        text = mark + end.join(change(line) if k in chosen else line for k, line in enumerate(lines)) + end
        for _ in range(2):  # the second time, the faces of the last file may be known
            vertices, faces = _read(tmp_path, text.replace("\n", end) if end != "\n" else text)
            assert vertices.tolist() == SIX and faces.tolist() == FOUR, chosen


@pytest.mark.parametrize("tab", [" ", "\t", "  ", " \\\n"])
@pytest.mark.parametrize("between", ["", "o eyes\n", "s off\nusemtl a\n", "# more\n\n"])
def test_several_objects_in_one_file(tmp_path, tab, between):
    second = [line.replace(" ", tab, 1) for line in SIX_LINES[4:]]
    text = (
        "o head\n"
        + "\n".join(SIX_LINES[:4] + FOUR_FACES[:2])
        + "\n"
        + between
        + "\n".join(second + FOUR_FACES[2:])
        + "\n"
    )
    for faces_of in (text, text.replace("f 3 4 5", "f -4 -3 -2").replace("f 5 4 6", "f -2 -3 -1")):
        vertices, faces = _read(tmp_path, faces_of)
        assert vertices.tolist() == SIX and faces.tolist() == FOUR


def test_vertices_behind_the_faces_that_name_them(tmp_path):
    vertices, faces = _read(tmp_path, "\n".join(FOUR_FACES + SIX_LINES))
    assert vertices.tolist() == SIX and faces.tolist() == FOUR
    vertices, faces = _read(tmp_path, "\n".join(SIX_LINES[:4] + FOUR_FACES + SIX_LINES[4:]))
    assert vertices.tolist() == SIX and faces.tolist() == FOUR


def test_files_that_differ_outside_of_the_faces_they_share(tmp_path):
    tail = "\n".join(FOUR_FACES) + "\n"
    for begin, count in ((SIX_LINES, 6), (["f 1 2 3", *SIX_LINES], None), ([*SIX_LINES, "f\t1\t2\t3"], None),
                         ([*SIX_LINES, "v 1 2 3"], 7), ([*SIX_LINES, "v\t1 2 3"], 7), ([*SIX_LINES, "# f 1 2 3"], 6),
                         (["vt 0 0", *SIX_LINES, "vn 0 0 1"], 6), ([*SIX_LINES, " f 1 2 3"], None),
                         ([*SIX_LINES, "usemtl a \\"], 0), ([*SIX_LINES[:5], "v 0.1 0.2 0.3 .\\"], 0)):  # fmt: skip
        _read(tmp_path, "\n".join(SIX_LINES) + "\n" + tail)  # what may be kept
        text = "\n".join(begin) + "\n" + tail
        if count == 0:  # the first face line belongs to the line before it
            assert _read(tmp_path, text)[1].tolist() == FOUR[1:]
            continue
        vertices, faces = _read(tmp_path, text)
        assert len(vertices) == (count or 6) and len(faces) == (4 if count else 5), begin
    with pytest.raises(InputError, match="up to 5, found 6"):
        _read(tmp_path, "\n".join(SIX_LINES[1:]) + "\n" + tail)


@pytest.mark.parametrize("corner", ["1/9999999999999999999", "1/-7/x", "1//", "1/", "1//5", "+1"])
def test_texture_and_normal_indices_are_not_looked_at(tmp_path, corner):
    assert _read(tmp_path, V_LINES + f"f {corner} 2/1 3/1\n")[1].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "corner",
    [
        "1" + "0" * 30,
        "-1" + "0" * 30,
        "9" * 5000,
        "1_0",
        "2.0",
        "1e0",
        "/2",
        "/1/1",
        "0x1",
        "\u0663",
        "2147483649",
        "4294967298",
        "-6",
        "0",
    ],
)
def test_indices_that_are_no_vertex(tmp_path, corner):
    for place in range(3):
        words = ["1", "2", "3"]
        words[place] = corner
        with pytest.raises(InputError, match="a.obj:6: ") as error:
            _read(tmp_path, V_LINES + f"f {' '.join(words)}\n")
        assert len(str(error.value)) < 600
        with pytest.raises(InputError, match="a.obj:7: "):
            _read(tmp_path, V_LINES + f"f 1 2 3 4\nf {' '.join(words)}\n")
    with pytest.raises(InputError, match="a.obj:6: "):  # as many words as a triangle has
        _read(tmp_path, V_LINES + "f 1 /2 3 4\n")


@pytest.mark.parametrize("number", ["1_0.5", "1e39", "-1e308", "1e400", "0x1", "1.0\x01", "\u0663.5", "1.0\x85"])
def test_coordinates_that_are_no_numbers(tmp_path, number):
    for place in range(3):
        words = ["1.0", "2.0", "3.0"]
        words[place] = number
        with pytest.raises(InputError, match="a.obj:6: .*three finite numbers"):
            _read(tmp_path, V_LINES + f"v {' '.join(words)}\nf 1 2 3\n")


def test_control_characters_are_no_blanks(tmp_path):
    with pytest.raises(InputError, match="a.obj:2"):
        _read(tmp_path, "v 1.0 2.0 3.0\nv 1.0\x012.0 3.0\nv 1.0\x1c2.0 3.0\nf 1 2 3\n")


def test_faces_of_one_file_do_not_leak_into_the_next(tmp_path):
    first = _read(tmp_path, V_LINES + "f 1 2 3\n")[1]
    first[:] = 99  # the caller's own copy
    np.testing.assert_array_equal(_read(tmp_path, V_LINES + "f 1 2 3\n")[1], [[0, 1, 2]])
    np.testing.assert_array_equal(_read(tmp_path, V_LINES + "f 1 2 4\n")[1], [[0, 1, 3]])
    with pytest.raises(InputError, match="up to 3, found 4"):
        _read(tmp_path, "v 0.5 0.5 0.5\n" * 3 + "f 1 2 4\n")


@pytest.mark.parametrize("form", [".1f", ".6f", ".8f", ".17g", ".3e"])
def test_blocks_round_as_python_does(form):
    values = np.random.default_rng(0).normal(0, 10, (2000, 3))
    text = "".join(f"v {a:{form}} {b:.6f} -0.0 {c:{form}}\n" for a, b, c in values).encode()
    expected = np.array([[float(word) for word in line.split()[1:]] for line in text.splitlines()])
    parsed = _block(text, b"v", float)
    np.testing.assert_array_equal(parsed, expected)
    np.testing.assert_array_equal(np.signbit(parsed), np.signbit(expected))


def test_blocks_take_no_byte_that_python_does_not():
    for byte in set(range(1, 256)) - set(b"0123456789\n"):
        for word in (b"1%c.50", b"0.5%c", b"0.%c5", b"%c0.5"):
            line = b"v 0.5 0.5 " + word.replace(b"%c", bytes([byte]))
            values = _block(line + b"\n", b"v", float)
            read = [float(number) for number in line.split()[1:]] if values is not None else None
            assert values is None or (byte not in b"_vf#" and values.tolist() == [read]), (byte, word)


@pytest.mark.parametrize(
    "line",
    ["v 1.0 2.0", "v 1.0 2.0 3.0 4.0", "v 1.0\n2.0 3.0", "w 1.0 2.0 3.0", "v 1.0 2.0 3.1.4", "v 1.0 2.0 1-2.5",
     "vn 1.0 2.0 3.0", "v 1.0 2.0 1_0", "v 1.0 2.0 v", "v 1.0 2.0 3.0 v 1.0 2.0 3.0", "v 1.0 2.0 3.0 # v",
     " v 1.0 2.0 3.0", "v\t1.0 2.0 3.0", "", "v", "f 1 2 3", "vn 0 0 1\nv 1.0 2.0 3.0"],
)  # fmt: skip
def test_blocks_of_unlike_lines_are_read_line_by_line(line):
    assert _block(f"v 0.5 0.5 0.5\n{line}\nv 0.5 0.5 0.5\n".encode(), b"v", float) is None


@pytest.mark.parametrize(
    "tail",
    [
        "f 1 2 3\nf 1 2 3 4\n",
        "f 1 2 3\nusemtl a\nf -5 3 4\n",
        "f 1 2 3\nv 7 8 9\nf 1 2 6\n",
        "f 1 2 3 4\nf 4 3 2 1\n",
        "f 1 2 3 # a\n",
    ],
)
def test_faces_of_any_form_behind_a_block_of_vertices(tmp_path, tail):
    for _ in range(2):  # the second time, the faces may be known
        found = _read(tmp_path, V_LINES + tail)
        slow = _read(tmp_path, V_LINES.replace("v ", "v\t", 1) + tail)
        assert [part.tolist() for part in found] == [part.tolist() for part in slow]
    with pytest.raises(InputError, match=f"a.obj:{6 + tail.count(chr(10))}: "):
        _read(tmp_path, V_LINES + tail + "f 1 2 7\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.obj: expected .* found an empty file"),
        ("# nothing\n", "with vertices"),
        (V_LINES, "with faces"),
        (V_LINES[:-10], "a.obj:5: .*'v 0.000000"),
        (V_LINES + "f 1 2 3\nf 1 2", "a.obj:7: .*'f 1 2'"),
        (V_LINES + "f 1 2 3\nf", "a.obj:7"),
        (V_LINES + "f 1 2 3\nf 1 2 6\n", "a.obj:7: .*up to 5, found 6"),
        (V_LINES + "f 0 1 2\n", "a.obj:6"),
        (V_LINES + "f -6 1 2\n", "a.obj:6"),
        (V_LINES + "f a b c\n", "a.obj:6"),
        (V_LINES + "v nan 0 0\nf 1 2 3\n", "a.obj:6: .*finite"),
        (V_LINES + "v inf 0 0\nf 1 2 3\n", "a.obj:6: .*finite"),
        (V_LINES + "v 0 0 zero\nf 1 2 3\n", "a.obj:6"),
        (V_LINES + "f 1 2 3\nf 1 2 \\", "a.obj:7: .*continuation"),
    ],
)
def test_broken_files_name_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        _read(tmp_path, text)


def test_a_line_continued_many_times_takes_no_longer_than_its_length(tmp_path):
    text = V_LINES + "f 1 2 3\nusemtl " + "a \\\n" * 300_000 + "a\n"
    begun = time.process_time()
    assert len(_read(tmp_path, text)[1]) == 1
    assert time.process_time() - begun < 5


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_obj(tmp_path / "none.obj")


def test_write_then_read(tmp_path):
    vertices = np.random.default_rng(0).normal(0, 0.1, (50, 3)).round(8)
    faces = np.random.default_rng(1).integers(0, 50, (70, 3))
    write_obj(tmp_path / "a.obj", vertices, faces)
    read_vertices, read_faces = read_obj(tmp_path / "a.obj")
    np.testing.assert_array_equal(read_vertices, vertices)
    np.testing.assert_array_equal(read_faces, faces)
    with pytest.raises(InputError, match="finite"):
        write_obj(tmp_path / "b.obj", vertices * np.nan, faces)


def test_same_mesh_as_trimesh(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    box = trimesh.creation.icosphere(subdivisions=1)
    (tmp_path / "a.obj").write_text(trimesh.exchange.obj.export_obj(box))
    vertices, faces = read_obj(tmp_path / "a.obj")
    np.testing.assert_allclose(vertices, box.vertices, atol=1e-8)
    np.testing.assert_array_equal(faces, box.faces)
