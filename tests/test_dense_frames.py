"""Frames on disk, folds, noise."""

from pathlib import Path

import numpy as np
import pytest

from face4d.constants import COMA_LABELS
from face4d.dense.config import DenseConfig
from face4d.dense.frames import fold_names, inner_groups, load_frames, make_fold
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply

SUBJECTS, LABELS = ("A", "B", "C", "D", "E"), ("left", "open", "side", "up")


@pytest.fixture(scope="module")
def sheet():
    """A 6 x 6 grid of vertices and an embedding on it."""
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), axis=-1).reshape(-1, 2)
    vertices = np.concatenate([grid * 0.03, np.zeros((36, 1))], axis=1).astype(np.float32)
    corner = (np.arange(5)[:, None] * 6 + np.arange(5)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 6, corner + 1], 1), np.stack([corner + 1, corner + 6, corner + 7], 1)]
    ).astype(np.int32)
    bary = np.random.default_rng(0).dirichlet(np.ones(3), 68)
    return vertices, LandmarkEmbedding(np.arange(68) % len(faces), bary, faces, 36)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory, sheet):
    """Sequences of 5 to 8 frames; frame t of a sequence is its first frame plus t times a motion."""
    vertices, embedding = sheet
    root = tmp_path_factory.mktemp("dense") / "meshes"
    for s, subject in enumerate(SUBJECTS):
        for k, label in enumerate(LABELS):
            still = vertices * (1 + 0.05 * s)
            motion = np.random.default_rng(10 + k).normal(0, 0.001, vertices.shape)
            for t in range(5 + (s + k) % 4):
                write_ply(root / subject / label / f"{label}.{t + 1:06d}.ply", still + t * motion, embedding.faces)
    return root


@pytest.fixture(scope="module")
def frames(meshes, sheet):
    return load_frames(meshes, sheet[1])


def test_frames_are_displacements_from_the_first_frame(frames, sheet):
    assert len(frames.subjects) == 20 and len(frames) == len(frames.landmarks) == sum(
        5 + (s + k) % 4 for s in range(5) for k in range(4)
    )
    rows = np.flatnonzero((frames.frame_subjects() == "C") & (frames.frame_labels() == "open"))
    motion = np.random.default_rng(11).normal(0, 0.001, (36, 3))
    moved = frames.vertices(rows)
    np.testing.assert_allclose(moved, np.arange(len(rows))[:, None, None] * motion, atol=1e-7)
    np.testing.assert_allclose(frames.landmarks[rows], extract(sheet[1], moved), atol=1e-7)
    whole = np.concatenate([part for _, part in frames.chunks()])
    np.testing.assert_array_equal(whole[rows], moved)


def test_florence_layout_is_read_too(tmp_path, sheet):
    vertices, embedding = sheet
    for t in range(3):
        folder = tmp_path / "CH01" / "Happy"
        folder.mkdir(parents=True, exist_ok=True)
        write_obj(folder / f"Happy_{t:02d}.obj", vertices + 0.001 * t, embedding.faces)
    frames = load_frames(tmp_path, embedding)
    assert (frames.subjects, frames.labels) == (("CH01",), ("Happy",))
    np.testing.assert_allclose(frames.vertices([0, 2])[:, 5, 0], [0, 0.002], atol=1e-7)


def test_neutral_faces_of_actors(meshes, sheet, tmp_path):
    vertices, embedding = sheet
    for subject in SUBJECTS:
        write_ply(tmp_path / f"{subject}.ply", vertices + 0.5, embedding.faces)
    frames = load_frames(meshes, embedding, actors=tmp_path)
    np.testing.assert_allclose(frames.vertices([0]), vertices[None] - (vertices + 0.5), atol=1e-6)
    (tmp_path / "D.ply").unlink()
    with pytest.raises(InputError, match="D.ply"):
        load_frames(meshes, embedding, actors=tmp_path)


def test_selection_keeps_frames_and_their_sequences_together(frames):
    half = frames.every(3)
    counts = np.bincount(frames.sequence)
    assert np.bincount(half.sequence).tolist() == [-(-n // 3) for n in counts]
    one = frames.select(frames.frame_subjects() == "B")
    assert one.subjects == ("B",) * 4 and len(one.neutrals) == 4
    for part in (half, one):
        for row in (0, len(part) // 2, len(part) - 1):
            source = frames.paths.index(part.paths[row])
            np.testing.assert_array_equal(part.vertices([row]), frames.vertices([source]))
            np.testing.assert_array_equal(part.landmarks[row], frames.landmarks[source])


def test_folds_are_those_of_the_paper():
    subjects = [f"FaceTalk_{n:02d}" for n in range(12)]
    assert [fold_names(subjects[::-1], k) for k in (1, 2, 3, 4)] == [
        tuple(subjects[start : start + 3]) for start in (9, 6, 3, 0)
    ]
    assert fold_names(COMA_LABELS, 1) == ("mouth-open", "mouth-side", "mouth-up")
    assert fold_names(COMA_LABELS, 4) == ("bareteeth", "cheeks-in", "eyebrow")
    with pytest.raises(InputError, match="4 or more"):
        fold_names(["a", "b", "c"], 1)


@pytest.mark.parametrize("split", ["identity", "expression"])
def test_test_frames_are_of_unseen_names_and_complete(frames, split):
    seen = []
    for k in (1, 2, 3, 4):
        fold = make_fold(frames, DenseConfig(split=split, fold=k, frame_step=2))
        names = fold.test.frame_subjects() if split == "identity" else fold.test.frame_labels()
        others = fold.train.frame_subjects() if split == "identity" else fold.train.frame_labels()
        assert not set(names) & set(others) and fold.name == f"{split}{k}"
        keys = frames.frame_subjects() if split == "identity" else frames.frame_labels()
        assert len(fold.train) == len(frames.select(~np.isin(keys, names)).every(2))
        assert len(np.unique(fold.groups)) > 1 and len(fold.groups) == len(fold.train)
        by_group = {(key, group) for key, group in zip(others, fold.groups.tolist())}
        assert len(by_group) == len(set(others))  # nobody in two groups
        seen += fold.test.paths
    assert sorted(seen) == sorted(frames.paths)  # every frame is tested once


def test_everything_is_learnt_from_without_a_fold(frames):
    fold = make_fold(frames, DenseConfig())
    assert fold.test is None and len(fold.train) == len(frames) and fold.name == "all"


def test_part_of_the_training_subjects(frames):
    fold = make_fold(frames, DenseConfig(fold=1, subjects_fraction=0.5, seed=3))
    whole = make_fold(frames, DenseConfig(fold=1))
    assert len(set(fold.train.subjects)) == 2 and set(fold.train.subjects) < set(whole.train.subjects)  # of four
    assert fold.test.paths == whole.test.paths
    assert make_fold(frames, DenseConfig(fold=1, subjects_fraction=0.5, seed=3)).train.subjects == fold.train.subjects
    single = make_fold(frames, DenseConfig(fold=1, subjects_fraction=0.01)).train
    assert len(set(single.subjects)) == 1 and len(np.unique(inner_groups(single, "identity"))) == 4  # by label then
    alone = single.select(np.arange(5))
    assert np.unique(inner_groups(alone, "identity")).tolist() == [0, 1, 2, 3]


def test_noise_has_the_size_asked_for_and_comes_again(frames):
    noisy = frames.with_noise(0.5, 0.3, 7)
    assert (noisy.landmarks - frames.landmarks).std() == pytest.approx(0.0005, rel=0.02)
    rows = np.arange(len(frames))
    difference = noisy.vertices(rows) - frames.vertices(rows)
    assert difference.std() == pytest.approx(0.0003, rel=0.02)
    np.testing.assert_array_equal(noisy.vertices([9, 3])[1], noisy.vertices(rows)[3])
    np.testing.assert_array_equal(noisy.select([3]).vertices([0])[0], noisy.vertices([3])[0])
    assert np.abs(difference[3] - difference[4]).max() > 1e-4
    np.testing.assert_array_equal(noisy.without_vertex_noise().vertices([3]), frames.vertices([3]))


def test_another_topology_is_refused(meshes, sheet, tmp_path):
    vertices, embedding = sheet
    flipped = LandmarkEmbedding(embedding.face_idx, embedding.bary, embedding.faces[:, [0, 2, 1]], 36)
    with pytest.raises(InputError, match="its triangles flipped"):
        load_frames(meshes, flipped)
    copy = tmp_path / "A" / "open"
    write_ply(copy / "open.000001.ply", vertices, embedding.faces)
    write_ply(copy / "open.000002.ply", np.zeros((40, 3)), embedding.faces)
    with pytest.raises(InputError, match="open.000002.ply"):
        load_frames(tmp_path, embedding)
    with pytest.raises(InputError, match="no such folder"):
        load_frames(Path(tmp_path / "absent"), embedding)
