"""The torch z-buffer against triangles worked out by hand and against every pixel times every triangle."""

import numpy as np
import pytest
import torch

from face4d.demo.head import demo_head
from face4d.render.lit import to_pixels, to_screen
from face4d.render.torch_zbuffer import interpolate, rasterize
from face4d.render.zbuffer import rasterize as rasterize_for_pictures


def by_brute_force(vertices, faces, height, width):
    """Triangle, barycentric weights and depth of every pixel, in float64; vertices (V, 3)."""
    # (F, 3, 1, 1) each
    a, b, c = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)].transpose(1, 0, 2)[..., None, None]
    y, x = np.mgrid[:height, :width].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        share_b = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / area
        share_c = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / area
    weights = np.stack([1 - share_b - share_c, share_b, share_c], axis=-1)  # (F, H, W, 3)
    depth = np.einsum("fhwk,fkij->fhw", weights, np.stack([a[:, 2:3], b[:, 2:3], c[:, 2:3]], axis=1)[:, :, 0])
    depth = np.where((weights >= 0).all(axis=-1) & (area != 0), depth, np.inf)
    triangle = depth.argmin(axis=0)
    nearest = depth.min(axis=0)
    weights = np.take_along_axis(weights, triangle[None, :, :, None], axis=0)[0]
    return np.where(np.isinf(nearest), -1, triangle), np.where(np.isinf(nearest)[..., None], 0, weights), nearest


def test_right_triangle_by_hand():
    corners = torch.tensor([[[0, 0, 1.0], [0, 3, 2.0], [3, 0, 3.0]]])
    triangle, weights, depth = rasterize(corners, torch.tensor([[0, 1, 2]]), 4, 5)
    assert triangle[0].tolist() == [[0, 0, 0, 0, -1], [0, 0, 0, -1, -1], [0, 0, -1, -1, -1], [0, -1, -1, -1, -1]]
    torch.testing.assert_close(weights[0, 1, 2], torch.tensor([0, 1 / 3, 2 / 3]))
    assert depth[0, 1, 2].item() == pytest.approx(2 / 3 + 2) and depth[0, 3, 4] == torch.inf
    assert (weights[0, 3, 4] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_every_pixel_times_every_triangle(seed):
    draw = np.random.default_rng(seed)
    size = (5, 20, 60, 200)[seed]  # of triangles: from less than a pixel to larger than the picture
    middles = draw.uniform(-10, 50, (120, 1, 3))
    vertices = (middles + draw.normal(0, size / 4, (120, 3, 3))).reshape(-1, 3).astype(np.float32)
    faces = np.arange(360).reshape(-1, 3)
    found = rasterize(torch.tensor(vertices)[None], torch.tensor(faces), 37, 41)
    triangle, weights, depth = by_brute_force(vertices, faces, 37, 41)
    np.testing.assert_array_equal(found.triangle[0], triangle)
    # weights in float32, slivers among the triangles
    np.testing.assert_allclose(found.depth[0], depth, rtol=1e-3, atol=1e-3)
    exact = rasterize(torch.tensor(vertices.astype(np.float64))[None], torch.tensor(faces), 37, 41)
    np.testing.assert_allclose(exact.barycentric[0], weights, atol=1e-9)


def head_on_screen(size):
    """The demo head turned, in pixels, (V, 3) float32, and its faces."""
    head = demo_head()
    vertices = torch.tensor(head.mean, dtype=torch.float32)[None]
    turn = torch.tensor([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    screen = to_pixels(to_screen(vertices @ turn.T, torch.tensor([[8.0, 0.0, 0.02]])), size)
    return screen, torch.tensor(head.faces.astype(np.int64))


def test_a_head_agrees_with_brute_force_and_with_the_other_rasterizer():
    screen, faces = head_on_screen(40)
    found = rasterize(screen, faces, 40, 40)
    triangle, _, depth = by_brute_force(screen[0].numpy(), faces.numpy(), 40, 40)
    np.testing.assert_array_equal(found.triangle[0], triangle)
    np.testing.assert_allclose(found.depth[0], depth, atol=1e-3)

    screen, faces = head_on_screen(224)
    found = rasterize(screen, faces, 224, 224)
    other, weights, depth = rasterize_for_pictures(screen[0].double().numpy(), faces.numpy(), 224, 224)
    assert (found.triangle[0].numpy() >= 0).sum() > 10_000
    np.testing.assert_array_equal(found.triangle[0], other)
    np.testing.assert_allclose(found.barycentric[0], weights, atol=1e-3)


def test_both_rasterizers_put_a_triangle_on_the_same_pixels():
    """Whole coordinates are the middles of pixels in both."""
    corners = np.array([[1.7, 0.75, 1.0], [1.7, 3.25, 2.0], [4.2, 0.75, 3.0]])
    expected = [[-1] * 6, [-1, -1, 0, 0, -1, -1], [-1, -1, 0, -1, -1, -1], [-1] * 6]
    triangle, weights, depth = rasterize(torch.tensor(corners)[None], torch.tensor([[0, 1, 2]]), 4, 6)
    other, other_weights, other_depth = rasterize_for_pictures(corners, np.array([[0, 1, 2]]), 4, 6)
    assert triangle[0].tolist() == other.tolist() == expected
    np.testing.assert_allclose(weights[0], other_weights, atol=1e-12)
    np.testing.assert_allclose(other_weights[1, 2], [0.78, 0.1, 0.12], atol=1e-12)
    np.testing.assert_allclose(depth[0], other_depth, atol=1e-12)


def test_batches_are_their_samples():
    screen, faces = head_on_screen(64)
    batch = torch.cat([screen, screen * 0.5 + 9.3, screen + 1000])  # the last beside the picture
    found = rasterize(batch, faces, 50, 64)
    for number, sample in enumerate(batch):
        alone = rasterize(sample[None], faces, 50, 64)
        for part, part_alone in zip(found, alone):
            assert torch.equal(part[number], part_alone[0])
    assert (found.triangle[2] == -1).all() and (found.triangle[1] >= 0).any()


def test_neighbours_leave_no_gap_and_their_order_decides_on_shared_edges():
    square = torch.tensor([[[0, 0, 1.0], [8, 0, 1.0], [8, 8, 1.0], [0, 8, 1.0]]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    for order, on_diagonal in ((faces, 0), (faces.flip(0), 0)):
        triangle = rasterize(square, order, 9, 9).triangle[0]
        assert (triangle >= 0).all() and (triangle.diagonal() == on_diagonal).all()
    draw = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0))
    points = np.stack([4.1 * x - 1, 4.1 * y - 1, 0 * x], axis=-1) + draw.uniform(-1.2, 1.2, (9, 9, 3)) * [1, 1, 0]
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    mesh = np.concatenate(
        [np.stack([corner, corner + 9, corner + 1], 1), np.stack([corner + 1, corner + 9, corner + 10], 1)]
    )
    inner = rasterize(torch.tensor(points.reshape(1, -1, 3)), torch.tensor(mesh), 32, 32).triangle[0, 2:28, 2:28]
    assert (inner >= 0).all()


def test_backfaces_are_seen_unless_left_out():
    corners = torch.tensor([[[0, 0, 0.0], [0, 6, 0], [6, 0, 0]]])
    front, back = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])
    assert (rasterize(corners, front, 5, 5, backfaces=False).triangle >= 0).any()
    assert (rasterize(corners, back, 5, 5).triangle >= 0).any()
    assert (rasterize(corners, back, 5, 5, backfaces=False).triangle == -1).all()


def test_many_large_triangles_are_evaluated_in_parts(monkeypatch):
    draw = np.random.default_rng(0)
    vertices = draw.uniform(-30, 90, (60, 3))
    faces = np.arange(60).reshape(-1, 3)
    whole = rasterize(torch.tensor(vertices)[None], torch.tensor(faces), 60, 60)
    monkeypatch.setattr("face4d.render.torch_zbuffer._PAIRS", 5000)
    parts = rasterize(torch.tensor(vertices)[None], torch.tensor(faces), 60, 60)
    assert torch.equal(whole.triangle, parts.triangle)
    np.testing.assert_array_equal(whole.triangle[0], by_brute_force(vertices, faces, 60, 60)[0])


def test_negative_and_equal_depths():
    near_and_far = torch.tensor([[[0, 0, -5.0], [0, 6, -5], [6, 0, -5], [0, 0, 7], [0, 6, 7], [6, 0, 7]]])
    for faces, shown in (([[0, 1, 2], [3, 4, 5]], 0), ([[3, 4, 5], [0, 1, 2]], 1), ([[3, 4, 5], [3, 4, 5]], 0)):
        found = rasterize(near_and_far, torch.tensor(faces), 4, 4).triangle
        assert (found[found >= 0] == shown).all() and (found >= 0).any()


def test_interpolation_is_exact_for_linear_attributes_and_batches():
    screen, faces = head_on_screen(64)
    batch = torch.cat([screen, screen * 0.7 + 3])
    found = rasterize(batch, faces, 64, 64)
    places = interpolate(batch, faces, found)
    covered = found.triangle >= 0
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    expected = torch.stack([x.expand(2, -1, -1), y.expand(2, -1, -1), found.depth], dim=-1)
    torch.testing.assert_close(places[covered], expected[covered], atol=2e-3, rtol=0)
    assert (places[~covered] == 0).all()
    shared = interpolate(batch[:1], faces, found)  # one set of attributes for both
    assert torch.equal(shared[0], places[0])


def test_gradients_of_vertices_and_attributes():
    corners = torch.tensor(
        [[[0.3, 0.2, 0.0], [0.1, 5.2, 1.0], [6.1, 0.4, 2.0]]], dtype=torch.float64, requires_grad=True
    )
    colors = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]], dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2]])

    def draw(corners, colors):
        raster = rasterize(corners, faces, 4, 4)
        return interpolate(colors, faces, raster), raster.depth[raster.triangle >= 0]

    assert torch.autograd.gradcheck(draw, (corners, colors))


def test_gradients_stay_finite_beside_degenerate_triangles():
    corners = torch.tensor([[[0, 0, 0.0], [0, 6, 0], [6, 0, 0], [2, 2, -1]]], requires_grad=True)
    raster = rasterize(corners, torch.tensor([[0, 1, 2], [3, 3, 3], [0, 0, 1]]), 5, 5)
    raster.barycentric.square().sum().backward()
    assert torch.isfinite(corners.grad).all() and (corners.grad != 0).any()


def test_wrong_input_is_refused():
    corners, faces = torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]])
    for arguments, message in (
        ((corners[0], faces, 4, 4), "vertices"),
        ((corners.long(), faces, 4, 4), "vertices"),
        ((corners, faces.int(), 4, 4), "faces"),
        ((corners, faces, 0, 4), "picture"),
        ((corners * torch.nan, faces, 4, 4), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            rasterize(*arguments)
