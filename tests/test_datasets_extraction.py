"""Landmarks straight from raw sequences: the numbers of the two steps, and every file still looked at."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from face4d.datasets.extraction import LandmarkFile, PointReader, plan_landmarks, resampled_landmarks, write_landmarks
from face4d.datasets.sampling import Resampling, sample_tree
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract_files
from face4d.mesh.ply import read_ply_vertices, write_ply
from face4d.mesh.sequence import frame_paths
from face4d.resample import METHODS, apply_plan, stream
from face4d.runtime.incremental import WriteOptions
from tests.conftest import toy_head

V, LENGTH = 204, 30
QUIET = WriteOptions(quiet=True)


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
    sample_tree(tmp_path / "raw", tmp_path / "sampling", Resampling(frames, method), QUIET)
    expected = extract_files(embedding, frame_paths(tmp_path / "sampling" / "S01" / "mouth_open"))
    found = resampled_landmarks(embedding, sequence, Resampling(frames, method))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_every_frame_is_checked_also_one_that_is_not_needed(sequence, embedding):
    resampled_landmarks(embedding, sequence, Resampling(2))  # the first and the last
    middle = sequence / "mouth_open.000010.ply"
    middle.write_bytes(middle.read_bytes()[:-1])
    with pytest.raises(InputError, match="000010.*cut short"):
        resampled_landmarks(embedding, sequence, Resampling(2))
    write_ply(middle, np.zeros((V - 1, 3)), np.zeros((4, 3), int))
    with pytest.raises(InputError, match=f"000010.*{V} vertices.*{V - 1}"):
        resampled_landmarks(embedding, sequence, Resampling(2))
    middle.unlink()
    with pytest.raises(InputError, match="gap"):
        resampled_landmarks(embedding, sequence, Resampling(2))


def test_too_short_for_the_method_is_refused(tmp_path, sequence, embedding):
    for path in frame_paths(sequence)[5:]:
        path.unlink()
    with pytest.raises(InputError, match="longer sequence"):
        resampled_landmarks(embedding, sequence, Resampling(41, "thesis"))


def test_points_of_files_of_any_layout(sequence):
    points, plain = np.array([5, 0, 5, 89]), frame_paths(sequence)
    text = plain[1]
    vertices = read_ply_vertices(text)
    rows = "\n".join(" ".join(map(repr, row)) for row in vertices.tolist())
    text.write_text(
        f"ply\nformat ascii 1.0\nelement vertex {V}\nproperty float x\nproperty float y\nproperty float z\n"
        f"end_header\n{rows}\n"
    )
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


@pytest.fixture
def with_holes(sequence, embedding) -> tuple[Path, np.ndarray]:
    """The sequence without some of its frames, and the landmarks of all frames with those interpolated in time."""
    landmarks = extract_files(embedding, frame_paths(sequence)).astype(np.float64)
    for missing in ((4,), (11, 12), (20, 21, 22)):
        for number in missing:
            (sequence / f"mouth_open.{number + 3:06d}.ply").unlink()
        before, after = missing[0] - 1, missing[-1] + 1
        for number in missing:
            part = (number - before) / (after - before)
            landmarks[number] = (1 - part) * landmarks[before] + part * landmarks[after]
    return sequence, landmarks


@pytest.mark.parametrize(
    ("frames", "method"), [(None, "linear"), (41, "linear"), (7, "linear"), (30, "linear"), (10, "thesis")]
)
def test_frame_numbers_with_holes_are_the_time(tmp_path, with_holes, embedding, frames, method, caplog):
    folder, filled = with_holes
    file = LandmarkFile(str(folder), str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    how = Resampling(frames, method)
    write = partial(write_landmarks, [file], embedding, options=QUIET)
    with pytest.raises(
        InputError,
        match="mouth_open: expected frame 7 after mouth_open.000006.ply, found mouth_open.000008.ply .*--skip-gaps",
    ):
        write(how)
    assert not (tmp_path / "a.npy").exists()
    write(replace(how, skip_gaps=True))
    expected = filled if frames is None else apply_plan(filled, METHODS[method](LENGTH, frames))
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-7)
    assert "S01/mouth_open (6 of 30)" in caplog.text and "holes" in caplog.text
    assert write(replace(how, skip_gaps=True)).unchanged == 1


def test_both_ways_to_resampled_landmarks_agree_over_holes(tmp_path, with_holes, embedding, caplog):
    folder, _ = with_holes
    with pytest.raises(InputError, match="--skip-gaps"):
        sample_tree(tmp_path / "raw", tmp_path / "sampling", Resampling(41), QUIET)
    sample_tree(tmp_path / "raw", tmp_path / "sampling", Resampling(41, skip_gaps=True), QUIET)
    assert "S01/mouth_open (6 of 30)" in caplog.text
    expected = extract_files(embedding, frame_paths(tmp_path / "sampling" / "S01" / "mouth_open"))
    np.testing.assert_allclose(
        resampled_landmarks(embedding, folder, Resampling(41, skip_gaps=True)), expected, atol=1e-7
    )
    assert sample_tree(tmp_path / "raw", tmp_path / "sampling", Resampling(41, skip_gaps=True), QUIET).unchanged == 41


def test_more_holes_than_frames_are_no_sequence(sequence, embedding):
    (sequence / "mouth_open.000003.ply").rename(sequence / "mouth_open.900003.ply")
    with pytest.raises(InputError, match="expected more frames than gaps in their numbers, found 30 frames and"):
        resampled_landmarks(embedding, sequence, Resampling(41, skip_gaps=True))


def test_landmark_files_that_no_meshes_explain_are_named(tmp_path, sequence, embedding, caplog):
    def run(**how):
        caplog.clear()
        train, test = plan_landmarks(tmp_path / "raw", tmp_path / "out", test_subjects=["S02"], **how)
        write_landmarks(train + test, embedding, options=QUIET)
        return caplog.text

    shutil.copytree(sequence, tmp_path / "raw" / "S02" / "mouth_open")
    shutil.copytree(sequence, tmp_path / "raw" / "S01" / "smile")
    assert run() == "" and run(labels=["smile", "mouth_open"]) == ""
    assert run(labels=["mouth_open"]) == ""  # the smile is explained, though not asked for
    (tmp_path / "raw" / "S01" / "smile").rename(tmp_path / "raw" / "S01" / "grin")
    (note,) = run().splitlines()
    assert "landmark files that no mesh sequence in" in note and note.endswith("dataset_training/smile_S01.npy")
    assert (tmp_path / "out" / "dataset_training" / "smile_S01.npy").exists()
