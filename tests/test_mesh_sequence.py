"""Frames in numerical order; gaps, duplicates and mixed topologies refused."""

import os

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply
from face4d.mesh.sequence import (
    find_sequences,
    frame_number,
    frame_paths,
    iterate_vertices,
    mesh_frames,
    numbered_frames,
    read_mesh,
)

FACES = np.array([[0, 1, 2]])


def _write(folder, names, vertices=3):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        write_ply(folder / name, np.full((vertices, 3), index, np.float32), FACES)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("mouth_open.000012.ply", 12),
        ("Sad2_07.obj", 7),
        ("Sad2.ply", 2),
        ("frame12x.ply", 12),
        ("a_12.h5", 12),
        ("frame12", 12),
        ("neutral.ply", None),
    ],
)
def test_frame_number_is_the_last_group_of_digits(name, number):
    assert frame_number(name) == number


def test_order_is_numerical(tmp_path):
    _write(tmp_path, ["a.8.ply", "a.9.ply", "a.10.ply", "a.11.ply"])
    (tmp_path / ".a.12.ply").touch()
    (tmp_path / "readme.txt").touch()
    assert [path.name for path in frame_paths(tmp_path)] == ["a.8.ply", "a.9.ply", "a.10.ply", "a.11.ply"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.1.ply", "a.2.ply", "a.4.ply"], "expected frame 3 after a.2.ply, found a.4.ply"),
        (["a.1.ply", "a.01.ply"], "one frame 1, found a.01.ply and a.1.ply"),
        ([], "found none"),
    ],
)
def test_gaps_duplicates_and_nothing_are_refused(tmp_path, names, message):
    _write(tmp_path, names)
    with pytest.raises(InputError, match=message) as error:
        frame_paths(tmp_path)
    assert error.value.path == str(tmp_path)


def test_missing_folder(tmp_path):
    for search in (frame_paths, find_sequences):
        with pytest.raises(InputError, match="no such folder"):
            search(tmp_path / "none")


def test_sequences_at_any_depth(tmp_path):
    for folder in ("S1/smile", "deep/er/S2/smile", ".hidden/S3/smile"):
        _write(tmp_path / folder, ["x.0.ply", "x.1.ply"])
    _write(tmp_path / "S1", ["S1.ply"])  # a neutral beside the expressions
    _write(tmp_path / "single" / "pose", ["p.1.ply"])
    found = [path.relative_to(tmp_path).as_posix() for path in find_sequences(tmp_path)]
    assert found == ["S1/smile", "deep/er/S2/smile", "single/pose"]
    assert find_sequences(tmp_path / "S1" / "smile") == [tmp_path / "S1" / "smile"]
    with pytest.raises(InputError, match=".obj frames at any depth, found none"):
        find_sequences(tmp_path, ".obj")


def test_links_are_followed_once(tmp_path):
    _write(tmp_path / "store" / "S1" / "smile", ["x.0.ply", "x.1.ply"])
    data = tmp_path / "data"
    data.mkdir()
    os.symlink(tmp_path / "store" / "S1", data / "S1")
    os.symlink(data, tmp_path / "store" / "S1" / "loop")
    assert find_sequences(data) == [data / "S1" / "smile"]


def test_frames_of_ply_and_of_obj(tmp_path):
    _write(tmp_path, ["x.0.ply", "x.1.ply", "x.2.ply"])
    vertices = np.stack(list(iterate_vertices(frame_paths(tmp_path))))
    assert vertices.shape == (3, 3, 3) and vertices.dtype == np.float32
    np.testing.assert_array_equal(vertices[:, 0, 0], [0, 1, 2])
    for k in range(3):
        write_obj(tmp_path / f"x_{k}.obj", vertices[k], FACES)
    np.testing.assert_array_equal(np.stack(list(iterate_vertices(frame_paths(tmp_path, ".obj")))), vertices)
    assert mesh_frames(tmp_path) == frame_paths(tmp_path, ".ply")
    assert mesh_frames(tmp_path, (".stl", ".obj")) == frame_paths(tmp_path, ".obj")
    with pytest.raises(InputError, match="numbered .stl frames"):
        mesh_frames(tmp_path, (".stl", ".off"))
    with pytest.raises(InputError, match="'.fbx'"):
        read_mesh(tmp_path / "a.fbx")


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_another_vertex_count_names_the_file(tmp_path, suffix):
    write = write_ply if suffix == ".ply" else write_obj
    for k, count in enumerate([4, 4, 5]):
        write(tmp_path / f"x_{k}{suffix}", np.zeros((count, 3)), FACES)
    with pytest.raises(InputError, match="x_2.* expected 4 vertices, found 5"):
        list(iterate_vertices(frame_paths(tmp_path, suffix)))


def test_meshes_that_are_no_frames_are_named_once(tmp_path, caplog):
    _write(tmp_path / "S1" / "smile", ["x.0.PLY", "x.1.ply", "neutral.ply", "._x.2.ply"])
    _write(tmp_path / "S1", ["neutral.ply", "S1.ply"])  # faces beside sequences
    for name in ("x.0.obj", "sampling.json", "x.0.stl", "note.txt"):
        (tmp_path / "S1" / "smile" / name).touch()
    assert find_sequences(tmp_path) == [tmp_path / "S1" / "smile"]
    assert caplog.messages == [
        f"note: {tmp_path}: 2 passed over, no numbered .ply frames: S1/smile/neutral.ply, S1/smile/x.0.stl"
    ]


def test_holes_are_read_over_on_request(tmp_path):
    _write(tmp_path, ["a.1.ply", "a.2.ply", "a.4.ply"])
    assert numbered_frames(tmp_path, skip_gaps=True) == [(1, "a.1.ply"), (2, "a.2.ply"), (4, "a.4.ply")]
    with pytest.raises(InputError, match="--skip-gaps reads on"):
        numbered_frames(tmp_path, skip_gaps=False)
    with pytest.raises(InputError, match=r"found a\.4\.ply \(a gap in the frame numbers\)$"):
        frame_paths(tmp_path)  # of commands that have no such flag


def test_as_many_holes_as_frames_and_not_more(tmp_path):
    _write(tmp_path / "a", ["a.1.ply", "a.4.ply"])
    assert len(numbered_frames(tmp_path / "a", skip_gaps=True)) == 2
    _write(tmp_path / "b", ["b.1.ply", "b.5.ply"])
    with pytest.raises(InputError, match="more frames than gaps .*, found 2 frames and 3 numbers without one"):
        numbered_frames(tmp_path / "b", skip_gaps=True)
    _write(tmp_path / "c", ["c.1.ply", "c.2.ply", "c.9.ply"])
    with pytest.raises(InputError, match="found 3 frames and 6 numbers without one"):
        numbered_frames(tmp_path / "c", skip_gaps=True)


def test_suffixes_are_read_in_either_case(tmp_path):
    _write(tmp_path, ["a.1.PLY", "a.2.ply"])
    assert [path.name for path in frame_paths(tmp_path, ".PLY")] == ["a.1.PLY", "a.2.ply"]
    assert find_sequences(tmp_path, ".PLY") == [tmp_path]
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.1.PLY")[1], FACES)


def test_several_frames_are_a_sequence_also_above_others(tmp_path):
    _write(tmp_path / "smile", ["x.0.ply", "x.1.ply"])
    _write(tmp_path / "smile" / "again", ["y.0.ply", "y.1.ply"])
    assert find_sequences(tmp_path) == [tmp_path / "smile", tmp_path / "smile" / "again"]


def test_off_and_stl_files(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(1, 0.1)
    points = np.concatenate([ball.vertices, [[0.5, 0.5, 0.5]]])  # the last in no triangle
    mesh = trimesh.Trimesh(points, ball.faces, process=False)
    mesh.export(tmp_path / "a.off", digits=9)
    vertices, faces = read_mesh(tmp_path / "a.off")
    assert (vertices.dtype, faces.dtype) == (np.float32, np.int32)
    np.testing.assert_allclose(vertices, points, atol=1e-7)
    np.testing.assert_array_equal(faces, ball.faces)
    for kind in ("stl", "stl_ascii"):
        mesh.export(tmp_path / "a.STL", file_type=kind)
        vertices, faces = read_mesh(tmp_path / "a.STL")
        assert len(vertices) == len(ball.vertices)  # the corners of triangles that share a vertex are one again
        np.testing.assert_allclose(vertices[faces], ball.vertices[ball.faces], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n", "none that trimesh can read"),
        ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "outside the range|found 7"),
        ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "found nan"),
        ("a.stl", b"", "none"),
        ("a.stl", b"x" * 84, "none"),
        ("b.stl", None, "no such file"),
    ],
)
def test_broken_off_and_stl_files_are_one_line(tmp_path, name, content, found):
    pytest.importorskip("trimesh")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=found) as error:
        read_mesh(tmp_path / name)
    assert "\n" not in str(error.value)
