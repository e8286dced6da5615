"""Closest points against a brute search."""

import numpy as np
import pytest

from face4d.mesh.geometry import closest_points, corner_sum, vertex_normals


def dense_points(vertices, faces, steps=40):
    """Many points on every triangle, (F, S, 3)."""
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    inside = i + j <= steps
    weights = np.stack([i[inside], j[inside], steps - i[inside] - j[inside]], axis=1) / steps
    return np.einsum("sk,fkd->fsd", weights, vertices[faces])


def test_against_many_points_on_every_triangle():
    draw = np.random.default_rng(0)
    # degenerate ones among them, sizes very different
    vertices, faces = draw.normal(size=(30, 3)), draw.integers(0, 30, (60, 3))
    vertices[:10] *= 0.05
    points = draw.normal(size=(30, 3))
    found = closest_points(points, vertices, faces)
    samples = dense_points(vertices, faces)
    brute = np.linalg.norm(samples[None] - points[:, None, None], axis=3).min(axis=(1, 2))
    assert (found.distance <= brute + 1e-12).all() and np.abs(found.distance - brute).max() < 0.03
    at = (found.bary[..., None] * vertices[faces[found.face]]).sum(axis=1)
    np.testing.assert_allclose(np.linalg.norm(at - points, axis=1), found.distance, atol=1e-12)
    np.testing.assert_allclose(found.bary.sum(axis=1), 1, atol=1e-12)
    assert found.bary.min() >= -1e-12


def test_points_of_the_surface_are_found_exactly():
    draw = np.random.default_rng(1)
    vertices, faces = draw.normal(size=(20, 3)), np.arange(18).reshape(6, 3)
    weights = draw.dirichlet([1, 1, 1], 40)
    face = draw.integers(0, 6, 40)
    found = closest_points((weights[..., None] * vertices[faces[face]]).sum(axis=1), vertices, faces)
    np.testing.assert_array_equal(found.face, face)
    np.testing.assert_allclose(found.bary, weights, atol=1e-9)


def test_normals_keep_two_sheets_apart_and_reach_ends_the_search():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    vertices = np.concatenate([square, square + [0, 0, 0.01]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 6, 5], [4, 7, 6]])  # the lower looks up (+z), the upper down
    point = np.array([[0.3, 0.6, 0.008]])
    for place in ([0.0, 0.0, 0.0], [-2.0, 3.0, 5.0]):  # wherever they are
        assert closest_points(point + place, vertices + place, faces).face[0] == 3
        up = closest_points(point + place, vertices + place, faces, normals=np.array([[0, 0, 1.0]]))
        assert up.face[0] == 1 and up.distance[0] == pytest.approx(0.008)
        none = closest_points(point + place, vertices + place, faces, normals=np.array([[0, 0, 1.0]]), reach=0.005)
        assert none.face[0] == -1 and np.isinf(none.distance[0]) and not none.bary.any()


def test_a_triangle_counts_from_the_least_cosine_on():
    triangle, faces = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]), np.array([[0, 1, 2]])
    point = np.array([[0.2, 0.3, 0.5]])
    for size in (0.01, 1.0, 100.0):
        for cosine, found in ((0.19, -1), (0.21, 0)):  # the default is 0.2
            normals = np.array([[0, np.sqrt(1 - cosine**2), cosine]])
            assert closest_points(size * point, size * triangle, faces, normals=normals).face[0] == found
            least = cosine - 0.01
            assert closest_points(size * point, size * triangle, faces, normals=normals, min_cosine=least).face[0] == 0
    assert closest_points(point, triangle, faces, reach=0.5).face[0] == 0  # the farthest that counts


def test_normals_are_weighted_by_area():
    # one vertex shared by a triangle of area 4.5 facing z and one of area 0.5 facing x
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 1, 0], [0, 0, 1.0]])
    normal = vertex_normals(vertices, np.array([[0, 1, 2], [0, 3, 4]]))[0]
    np.testing.assert_allclose(normal, np.array([1, 0, 9]) / np.sqrt(82), atol=1e-12)


def test_normals_of_arrays_and_of_tensors_are_the_same():
    torch = pytest.importorskip("torch")
    from face4d.render.lit import vertex_normals as normals_of_tensors

    draw = np.random.default_rng(0)
    vertices, faces = draw.normal(size=(30, 3)), draw.integers(0, 29, (50, 3))  # vertex 29 has no triangle
    found = vertex_normals(vertices, faces)
    of_tensors = normals_of_tensors(torch.tensor(vertices)[None], torch.tensor(faces))[0]
    np.testing.assert_allclose(found, of_tensors, atol=1e-12)
    assert (found[29] == 0).all()
    np.testing.assert_array_equal(vertex_normals(vertices, faces, corner_sum(faces, 30)), found)
