"""Sequences that are read in parts."""

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.frames import check_sequence, open_frames
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply
from face4d.mesh.triangles import OtherTopologyError
from tests.conftest import toy_head

VERTICES, FACES = toy_head()
COUNT = len(VERTICES)
MOTION = (VERTICES + np.linspace(0, 0.02, 7)[:, None, None]).astype(np.float32)


def opened(path):
    return open_frames(path, COUNT, FACES, "the toy's topology")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(7, COUNT, 3), (7, 3 * COUNT)])
def test_arrays_stay_on_disk(tmp_path, shape, order):
    np.save(tmp_path / "m.npy", np.asarray(MOTION.reshape(shape), np.float64, order=order))
    frames = opened(tmp_path / "m.npy")
    assert len(frames) == 7 and frames.names[2].endswith("m.npy, frame 2") and not len(frames.faces)
    parts = list(frames.parts(3))
    assert [start for start, _ in parts] == [0, 3, 6] and parts[0][1].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), MOTION)
    check_sequence(frames, part=2)


def test_a_single_face_is_one_frame(tmp_path):
    np.save(tmp_path / "m.npy", MOTION[0])
    write_ply(tmp_path / "m.ply", MOTION[0], FACES)
    for name in ("m.npy", "m.ply"):
        np.testing.assert_array_equal(opened(tmp_path / name).read(0, 1), MOTION[:1])


@pytest.mark.parametrize(("write", "suffix"), [(write_ply, "ply"), (write_obj, "obj")])
def test_folders_are_read_in_the_order_of_their_numbers(tmp_path, write, suffix):
    for frame, vertices in enumerate(MOTION, 8):
        write(tmp_path / f"a.{frame}.{suffix}", vertices, FACES)
    frames = opened(tmp_path)
    np.testing.assert_allclose(np.concatenate([part for _, part in frames.parts(2)]), MOTION, atol=1e-6)
    np.testing.assert_array_equal(frames.faces, FACES)


def test_what_does_not_fit_is_named(tmp_path):
    write_ply(tmp_path / "other" / "a.0.ply", MOTION[0][:-1], FACES[:-1])
    with pytest.raises(OtherTopologyError, match=r"a.0.ply: expected the toy's topology"):
        opened(tmp_path / "other")
    for frame, vertices in enumerate(MOTION):
        write_ply(tmp_path / "jump" / f"a.{frame}.ply", vertices + np.float32(0.5 * (frame == 4)), FACES)
    with pytest.raises(InputError, match=r"a.4.ply: expected points near those of a.3.ply"):
        check_sequence(opened(tmp_path / "jump"), part=2)
    np.save(tmp_path / "text.npy", np.full((7, COUNT, 3), "a"))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    for name in ("text", "objects", "none"):
        with pytest.raises(InputError, match=rf"{name}.npy: expected frames"):
            opened(tmp_path / f"{name}.npy")
