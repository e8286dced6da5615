"""Errors per vertex of generated meshes and of decoded landmarks, end to end."""

from types import SimpleNamespace

import numpy as np
import pytest

from face4d.datasets.landmark_set import load_folder
from face4d.errors import InputError
from face4d.evaluation.surfaces import (
    RealSurfaces,
    class_mean_error,
    decoded_surface,
    find_meshes,
    match_mesh_samples,
)
from face4d.landmarks import LandmarkEmbedding
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply
from tests.conftest import toy_head, write_landmarks

FRAMES = 5
LABELS, PEOPLE = ("Happy", "Rage"), ("A", "B", "C")


@pytest.fixture(scope="module")
def embedding():
    _, faces = toy_head()
    return LandmarkEmbedding(np.arange(68), np.tile([1 / 3, 1 / 3, 1 / 3], (68, 1)), faces, 204)


@pytest.fixture
def sequences(tmp_path):
    return load_folder(write_landmarks(tmp_path / "landmarks", LABELS, PEOPLE, FRAMES))


def vertices_of(landmarks: np.ndarray) -> np.ndarray:
    """(T, 204, 3): the toy head's triangles around landmarks (T, 68, 3)."""
    head, _ = toy_head()
    corners = head.reshape(68, 3, 3) - head.reshape(68, 3, 3).mean(axis=1, keepdims=True)
    return (landmarks[:, :, None] + corners).reshape(len(landmarks), 204, 3).astype(np.float32)


def write_meshes(folder, sequences, *, moved=0.0, suffix=".ply"):
    """``<subject>/<label>/``, every vertex ``moved`` metres along x from frame 1 on."""
    _, faces = toy_head()
    for sequence in sequences:
        place = folder / sequence.subject / sequence.label
        place.mkdir(parents=True)
        vertices = vertices_of(sequence.landmarks)
        vertices[1:, :, 0] += moved
        for number, frame in enumerate(vertices):
            (write_ply if suffix == ".ply" else write_obj)(place / f"f.{number:03d}{suffix}", frame, faces)
    return folder


def real_surfaces(folder, embedding, sequences) -> RealSurfaces:
    return RealSurfaces(find_meshes(folder, embedding, sequences), tuple(s.subject for s in sequences))


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_generated_meshes_are_measured_and_give_their_landmarks(tmp_path, embedding, sequences, suffix):
    real = real_surfaces(write_meshes(tmp_path / "real", sequences), embedding, sequences)
    write_meshes(tmp_path / "theirs", sequences, moved=0.002, suffix=suffix)
    (files,) = match_mesh_samples(tmp_path / "theirs", embedding, sequences)
    error = real.errors_of(files)
    assert error.mean == pytest.approx(2, rel=1e-3) and error.std < 0.01
    wanted = np.stack([sequence.landmarks for sequence in sequences])
    wanted[:, 1:, :, 0] += 0.002
    np.testing.assert_allclose(files.landmarks(), wanted, atol=1e-6)
    part = RealSurfaces(real.files.select([2, 4]), ("C", "B"))
    assert part.errors_of(files.select([2, 4])).mean == pytest.approx(2, rel=1e-3)
    assert part.errors_of(files.select([4, 2])).mean > 2


def test_still_faces_and_the_class_mean(tmp_path, embedding, sequences):
    real = real_surfaces(write_meshes(tmp_path / "real", sequences), embedding, sequences)
    motion = np.stack([vertices_of(s.landmarks) - vertices_of(s.landmarks[:1]) for s in sequences]).astype(float)
    lengths = 1000 * np.linalg.norm(motion[:, 1:], axis=-1)
    assert real.still().mean == pytest.approx(lengths.mean(), rel=1e-3)
    assert real.still().std == pytest.approx(lengths.std(), rel=1e-3)
    labels = [sequence.label for sequence in sequences]
    train = [number for number, sequence in enumerate(sequences) if sequence.subject != "B"]
    test = [number for number in range(len(sequences)) if number not in train]
    of = lambda rows: RealSurfaces(real.files.select(rows), tuple(sequences[n].subject for n in rows))  # noqa: E731
    found = class_mean_error(of(train), [labels[n] for n in train], of(test), [labels[n] for n in test])
    means = {label: motion[[n for n in train if labels[n] == label]].mean(axis=0) for label in LABELS}
    apart = [np.linalg.norm(means[labels[n]][1:] - motion[n, 1:], axis=-1).mean() for n in test]
    assert found.mean == pytest.approx(1000 * np.mean(apart), rel=1e-3)


def test_decoded_landmarks_are_measured_end_to_end(tmp_path, embedding, sequences):
    real = real_surfaces(write_meshes(tmp_path / "real", sequences), embedding, sequences)
    head, _ = toy_head()
    decoder = SimpleNamespace(
        template=head, path="d.pt", decode=lambda moved, neutral: neutral + np.repeat(moved, 3, axis=1)
    )
    surface = decoded_surface(decoder, real)
    wanted = np.stack([sequence.displacement for sequence in sequences])
    assert surface(wanted).mean == pytest.approx(0, abs=1e-4)
    assert surface(wanted + np.float32([0.003, 0, 0.004])).mean == pytest.approx(5, rel=1e-3)
    assert surface(np.zeros_like(wanted)).mean == pytest.approx(real.still().mean, rel=1e-4)
    decoder.template = head[:-1]
    with pytest.raises(InputError, match="a decoder to the meshes' 204 vertices, found 203"):
        decoded_surface(decoder, real)


def test_neutral_faces_may_be_the_actors(tmp_path, embedding, sequences):
    files = find_meshes(write_meshes(tmp_path / "real", sequences), embedding, sequences)
    _, faces = toy_head()
    (tmp_path / "actors").mkdir()
    for person in PEOPLE:
        own = next(s for s in sequences if s.subject == person)
        write_ply(tmp_path / "actors" / f"{person}.ply", vertices_of(own.landmarks)[2], faces)
    real = RealSurfaces(files, tuple(s.subject for s in sequences), tmp_path / "actors")
    np.testing.assert_allclose(real.neutral(0), vertices_of(sequences[0].landmarks)[2], atol=1e-6)


def test_what_is_missing_or_too_much_is_one_line(tmp_path, embedding, sequences):
    write_meshes(tmp_path / "few", sequences[1:])
    with pytest.raises(InputError, match="meshes of all 6 sequences.* found 1 missing, first A/Happy"):
        find_meshes(tmp_path / "few", embedding, sequences)
    find_meshes(tmp_path / "few", embedding, sequences[2:])
    with pytest.raises(InputError, match="a sequence of the test set, found another"):
        match_mesh_samples(tmp_path / "few", embedding, sequences[2:])
    next((tmp_path / "few" / "B" / "Happy").glob("*004.ply")).unlink()
    with pytest.raises(InputError, match="5 frames as in .*Happy_B.npy, found 4"):
        find_meshes(tmp_path / "few", embedding, sequences[1:])
    with pytest.raises(InputError, match="sequences of numbered .ply frames"):
        (tmp_path / "empty").mkdir()
        find_meshes(tmp_path / "empty", embedding, sequences)


def test_several_answers(tmp_path, embedding, sequences):
    for number in range(3):
        write_meshes(tmp_path / "several" / f"sample_{number:02d}", sequences, moved=0.001 * number)
    several = match_mesh_samples(tmp_path / "several", embedding, sequences)
    real = real_surfaces(tmp_path / "several" / "sample_00", embedding, sequences)
    np.testing.assert_allclose([real.errors_of(files).mean for files in several], [0, 1, 2], rtol=1e-3, atol=1e-6)
