"""Motion carried from one topology to another of the same shape, against the motion the other really makes."""

import numpy as np
import pytest

from face4d.commands.landmarks import main
from face4d.correspondence import Correspondence, fit_embedding, load_correspondence, save_correspondence
from face4d.demo.flame import dynamic_embedding, static_embedding
from face4d.demo.head import EYE, SKIN, TEETH, demo_head
from face4d.demo.write import demo_sequence
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract, load_embedding, save_embedding
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply


def embedding_of(head):
    contour, static = dynamic_embedding(head), static_embedding(head)
    return LandmarkEmbedding(
        np.concatenate([contour[0][0], static[0]]),
        np.concatenate([contour[1][0], static[1]]),
        head.faces,
        len(head.mean),
    )


@pytest.fixture(scope="module")
def heads():
    return demo_head(0), demo_head(1)


@pytest.fixture(scope="module")
def motions(heads):
    """The same person opening the mouth wide, in both topologies, (9, V, 3) each."""
    return [demo_sequence(head, 27, 1, "mouth-extreme", 9) for head in heads]


@pytest.fixture(scope="module")
def fitted(heads, motions):
    return fit_embedding(embedding_of(heads[0]), motions[0][0], motions[1][0], heads[1].faces)


def test_transferred_motion_is_the_true_one(heads, motions, fitted):
    coarse, fine = motions
    moved = fine[0] + fitted.transfer(coarse - coarse[0])
    error, motion = 1e3 * np.linalg.norm(moved - fine, axis=2), 1e3 * np.linalg.norm(fine - fine[0], axis=2)
    apex = motion.mean(axis=1).argmax()
    assert motion[apex].mean() > 4 and motion[apex].max() > 30  # millimetres
    assert error[apex].mean() < 0.2 and np.percentile(error[apex], 95) < 1.2
    assert error[apex][np.isin(heads[1].kind, (EYE, TEETH))].mean() < 0.1
    np.testing.assert_array_equal(moved[0], fine[0])
    own = 1e3 * np.linalg.norm(extract(fitted.embedding, fine[0]) - extract(embedding_of(heads[0]), coarse[0]), axis=1)
    assert own.mean() < 0.5


def test_lips_stay_apart(heads, motions, fitted):
    """What is closed in the neutral face opens, and closes again: upper lip vertices never hang on the lower lip."""
    coarse, fine = motions
    apex = np.linalg.norm(fine - fine[0], axis=2).mean(axis=1).argmax()
    moved = extract(fitted.embedding, fine[0] + fitted.transfer(coarse - coarse[0]))
    true = extract(embedding_of(heads[1]), fine)
    # middle of the inner lips
    gap = [np.linalg.norm(points[:, 62] - points[:, 66], axis=1) for points in (moved, true)]
    assert gap[1][apex] > 0.02
    np.testing.assert_allclose(gap[0], gap[1], atol=2e-3)


def test_what_the_copy_does_not_cover_follows_smoothly(heads, motions):
    """A copy of the skin alone: the inside of the mouth is continued from the lips, eyeballs and teeth move as a
    whole."""
    head, other = heads
    skin = (head.kind == SKIN)[head.faces].all(axis=1)
    keep = np.flatnonzero(skin)
    own = embedding_of(head)
    number = np.full(len(head.faces), -1)
    number[keep] = np.arange(len(keep))
    inside = number[own.face_idx] >= 0
    face_idx, bary = number[own.face_idx], own.bary.copy()
    face_idx[~inside] = face_idx[inside][0]  # landmarks on the lips' rims; of no interest here
    bary[~inside] = bary[inside][0]
    source = LandmarkEmbedding(face_idx, bary, head.faces[keep], len(head.mean))
    fitted = fit_embedding(source, motions[0][0], motions[1][0], other.faces)
    covered = fitted.face >= 0
    assert 0.5 < fitted.covered < 0.97 and covered[other.kind == SKIN].mean() > 0.97
    moved = fitted.transfer(motions[0] - motions[0][0])
    apex = np.linalg.norm(motions[1] - motions[1][0], axis=2).mean(axis=1).argmax()
    skin_error = 1e3 * np.linalg.norm(motions[1][0] + moved[apex] - motions[1][apex], axis=1)[other.kind == SKIN]
    assert skin_error.mean() < 0.2
    low, high = moved[apex][covered].min(axis=0), moved[apex][covered].max(axis=0)
    # harmonic functions have no peaks of their own
    assert (moved[apex] >= low - 1e-6).all() and (moved[apex] <= high + 1e-6).all()
    edges = other.faces[:, [0, 1]]
    stretch, length = (
        np.linalg.norm(np.diff(points[edges], axis=1)[:, 0], axis=1) for points in (moved[apex], motions[1][0])
    )
    rough = stretch / length
    assert np.percentile(rough[~covered[edges].all(axis=1)], 95) < 2
    teeth = moved[apex][(other.kind == TEETH) & (other.inner[:, 1] < 0)]
    assert np.ptp(teeth, axis=0).max() < 1e-2


def test_a_mesh_on_its_own_copy_moves_exactly(heads, motions):
    head, motion = heads[0], motions[0]
    fitted = fit_embedding(embedding_of(head), motion[0], motion[0], head.faces)
    referenced = np.unique(head.faces)
    np.testing.assert_allclose(
        fitted.transfer(motion - motion[0])[:, referenced], (motion - motion[0])[:, referenced], atol=1e-6
    )


def test_file_comes_back_and_is_a_landmark_embedding(fitted, motions, tmp_path):
    save_correspondence(tmp_path / "a.npz", fitted)
    again = load_correspondence(tmp_path / "a.npz")
    displacement = motions[0] - motions[0][0]
    np.testing.assert_array_equal(again.transfer(displacement), fitted.transfer(displacement))
    np.testing.assert_array_equal(load_embedding(tmp_path / "a.npz").face_idx, fitted.embedding.face_idx)
    save_embedding(tmp_path / "hand.npz", fitted.embedding)
    with pytest.raises(
        InputError, match="hand.npz: expected an embedding made by .*face4d landmarks, found one without registered"
    ):
        load_correspondence(tmp_path / "hand.npz")
    wrong = Correspondence(
        fitted.embedding, fitted.registered[:9], fitted.registered_faces, fitted.neutral, fitted.face, fitted.bary
    )
    save_correspondence(tmp_path / "b.npz", wrong)
    with pytest.raises(InputError, match="fit each other"):
        load_correspondence(tmp_path / "b.npz")


def test_bad_heads_are_refused(heads, motions):
    source, copy = embedding_of(heads[0]), motions[0][0]
    target, faces = motions[1][0], heads[1].faces
    with pytest.raises(InputError, match="head.obj: .*counter-clockwise.*turned inside out"):
        fit_embedding(source, copy, target, faces[:, ::-1], name="head.obj")
    one_flipped = faces.copy()
    one_flipped[100] = one_flipped[100, ::-1]
    with pytest.raises(InputError, match="flipped faces: both triangles at edge"):
        fit_embedding(source, copy, target, one_flipped)
    with pytest.raises(InputError, match="manifold"):
        fit_embedding(source, copy, target, np.concatenate([faces, [[faces[0, 0], faces[0, 1], faces[500, 0]]]]))
    with pytest.raises(InputError, match="within 6 mm of the registered copy's landmarks, found landmark .* off"):
        fit_embedding(source, copy, target + [0.05, 0, 0], faces)
    with pytest.raises(InputError, match="in metres"):
        fit_embedding(source, 1e3 * copy, 1e3 * target, faces)


def test_command_fits_and_says_how_well(heads, motions, tmp_path, run_script, monkeypatch):
    save_embedding(tmp_path / "source.npz", embedding_of(heads[0]))
    write_ply(tmp_path / "copy.ply", motions[0][0], heads[0].faces)
    write_ply(tmp_path / "turned.ply", motions[0][0], heads[0].faces[:, ::-1])
    write_obj(tmp_path / "head.obj", motions[1][0], heads[1].faces)
    command = [
        "face4d landmarks",
        "--target",
        "head.obj",
        "--output",
        "out.npz",
        "--landmark-embedding",
        "source.npz",
    ]
    result = run_script(*command, "--registered", "copy.ply", cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "wrote out.npz" and "% of" in result.stdout and result.stderr == ""
    assert load_correspondence(tmp_path / "out.npz").covered > 0.95
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (["--registered", "copy.ply"], "--overwrite"),
        (
            ["--registered", "head.obj", "--overwrite"],
            f"head.obj: expected the topology of the landmarks ({len(heads[0].mean)} vertices",
        ),
        (["--registered", "turned.ply", "--overwrite"], "its triangles flipped"),
        (["--registered", "nobody.ply", "--overwrite"], "nobody.ply"),
    ):
        with pytest.raises(InputError) as bad:
            main([*command[1:], *arguments])
        assert words in str(bad.value)
