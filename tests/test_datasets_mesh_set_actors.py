"""Folders of neutral faces: which files are meant."""

import numpy as np
import pytest

from face4d.datasets.mesh_set import actor_path, actor_paths, load_actors
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply
from tests.conftest import toy_head


@pytest.fixture
def embedding():
    return LandmarkEmbedding(np.arange(68), np.full((68, 3), 1 / 3), toy_head()[1], 204)


@pytest.fixture
def folder(tmp_path):
    vertices, faces = toy_head()
    write_ply(tmp_path / "S1.PLY", vertices, faces)
    write_obj(tmp_path / "S2.Obj", vertices * 1.1, faces)
    write_ply(tmp_path / "S3.ply", vertices * 1.2, faces)
    write_obj(tmp_path / "S3.obj", vertices * 1.3, faces)  # as after step 1
    (tmp_path / "._S4.ply").write_bytes(b"of another system")
    (tmp_path / "S3.mtl").touch()
    return tmp_path


def test_capitals_are_read_hidden_files_are_not(folder, embedding, caplog):
    actors = load_actors(folder, embedding)
    assert list(actors) == ["S1", "S2", "S3"] and not caplog.records
    sizes = [np.ptp(points[:, 0]) / np.ptp(actors["S1"][:, 0]) for points in actors.values()]
    np.testing.assert_allclose(sizes, [1, 1.1, 1.2], rtol=1e-5)
    assert actor_path(folder, "S2").name == "S2.Obj"
    with pytest.raises(InputError, match="the neutral mesh S4.ply .*found only S1.PLY, S2.Obj, S3.ply"):
        actor_path(folder, "S4")


def test_what_is_passed_over_is_named(folder, embedding, caplog):
    (folder / "S5.stl").touch()
    load_actors(folder, embedding)
    assert caplog.messages == [f"note: {folder}: 1 passed over, no neutral meshes (.ply, .obj): S5.stl"]


def test_two_of_one_name(folder):
    vertices, faces = toy_head()
    write_ply(folder / "S3.Ply", vertices, faces)
    with pytest.raises(InputError, match="one .ply of S3, found S3.Ply and S3.ply"):
        actor_paths(folder)
    (folder / "S3.Ply").rename(folder / "s1.ply")
    with pytest.raises(InputError, match="one spelling of a subject, found S1 and s1"):
        actor_paths(folder)
