"""Landmarks straight from raw sequences: the numbers of the two steps, and every file still looked at."""

from pathlib import Path

import numpy as np
import pytest

from face4d.datasets.extraction import resampled_landmarks
from face4d.datasets.sampling import sample_tree
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract_files
from face4d.mesh.ply import read_ply_vertices, write_ply
from face4d.mesh.points import PointReader
from face4d.mesh.sequence import frame_paths
from face4d.resample import METHODS, apply_plan, stream
from tests.conftest import toy_head

V, LENGTH = 204, 30


@pytest.fixture
def embedding():
    rng = np.random.default_rng(1)
    return LandmarkEmbedding(np.arange(68), rng.dirichlet([1, 1, 1], 68), toy_head()[1], V)


@pytest.fixture
def sequence(tmp_path, embedding) -> Path:
    folder = tmp_path / "raw" / "S01" / "mouth_open"
    folder.mkdir(parents=True)
    frames = (toy_head()[0] + np.random.default_rng(2).normal(0, 0.002, (LENGTH, V, 3))).astype(np.float32)
    for number, vertices in enumerate(frames):
        write_ply(folder / f"mouth_open.{number + 3:06d}.ply", vertices, embedding.faces)
    return folder


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [1, 7, 30, 41])
def test_same_to_the_bit_as_resampled_meshes(tmp_path, sequence, embedding, method, frames):
    sample_tree(tmp_path / "raw", tmp_path / "sampling", frames=frames, method=method, quiet=True)
    expected = extract_files(embedding, frame_paths(tmp_path / "sampling" / "S01" / "mouth_open"))
    found = resampled_landmarks(embedding, sequence, frames, method)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_every_frame_is_checked_also_one_that_is_not_needed(sequence, embedding):
    resampled_landmarks(embedding, sequence, 2)  # the first and the last
    middle = sequence / "mouth_open.000010.ply"
    middle.write_bytes(middle.read_bytes()[:-1])
    with pytest.raises(InputError, match="000010.*cut short"):
        resampled_landmarks(embedding, sequence, 2)
    write_ply(middle, np.zeros((V - 1, 3)), np.zeros((4, 3), int))
    with pytest.raises(InputError, match=f"000010.*{V} vertices.*{V - 1}"):
        resampled_landmarks(embedding, sequence, 2)
    middle.unlink()
    with pytest.raises(InputError, match="gap"):
        resampled_landmarks(embedding, sequence, 2)


def test_too_short_for_the_method_is_refused(tmp_path, sequence, embedding):
    for path in frame_paths(sequence)[5:]:
        path.unlink()
    with pytest.raises(InputError, match="longer sequence"):
        resampled_landmarks(embedding, sequence, 41, "thesis")


def test_points_of_files_of_any_layout(sequence):
    points, plain = np.array([5, 0, 5, 89]), frame_paths(sequence)
    text = plain[1]
    vertices = read_ply_vertices(text)
    rows = "\n".join(" ".join(map(repr, row)) for row in vertices.tolist())
    text.write_text(f"ply\nformat ascii 1.0\nelement vertex {V}\nproperty float x\nproperty float y\nproperty float z\nend_header\n{rows}\n")
    reader = PointReader(points, V)
    for path in (plain[0], text, *plain[2:5], plain[2]):
        reader.check(path)
        np.testing.assert_array_equal(reader.read(path), read_ply_vertices(path)[points])
    plain[3].write_bytes(b"")
    for look in (reader.read, reader.check):
        for path in (plain[3], sequence / "none.ply", sequence):
            with pytest.raises(InputError):
                look(path)
    vertices[5, 1] = np.nan
    raw = plain[4].read_bytes()
    start = raw.index(b"end_header\n") + 11
    plain[4].write_bytes(raw[:start] + vertices.tobytes() + raw[start + vertices.nbytes :])
    with pytest.raises(InputError, match="finite"):
        reader.read(plain[4])


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_applied_at_once_gives_the_streamed_frames(method):
    sequence = np.random.default_rng(3).normal(size=(57, 11, 3)).astype(np.float32)
    plan = METHODS[method](57, 41)
    np.testing.assert_array_equal(apply_plan(sequence, plan), np.stack(list(stream(sequence, plan))))
