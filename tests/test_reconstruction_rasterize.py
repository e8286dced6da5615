"""The torch z-buffer against triangles worked out by hand and against every pixel times every triangle."""

import numpy as np
import pytest
import torch

from face4d.datasets.demo.head import demo_head
from face4d.mesh.rasterizer import rasterize as rasterize_for_pictures
from face4d.reconstruction.camera import to_pixels, to_screen
from face4d.reconstruction.rasterize import interpolate, rasterize


def by_brute_force(vertices, faces, height, width):
    """Triangle, barycentric weights and depth of every pixel, in float64; vertices (V, 3)."""
    a, b, c = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)].transpose(1, 0, 2)[..., None, None]  # (F, 3, 1, 1) each
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
    np.testing.assert_allclose(found.depth[0], depth, rtol=1e-3, atol=1e-3)  # weights in float32, slivers among the triangles
    exact = rasterize(torch.tensor(vertices.astype(np.float64))[None], torch.tensor(faces), 37, 41)
    np.testing.assert_allclose(exact.barycentric[0], weights, atol=1e-9)
