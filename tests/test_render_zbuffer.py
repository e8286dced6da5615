"""The z-buffer against triangles worked out by hand and against a loop over every pixel."""

import numpy as np
import pytest

from face4d.render.zbuffer import all_fragments, rasterize, visible_fragments


def by_loop(vertices, faces, height, width, backfaces=True):
    """The middle of every pixel against every triangle, in exact half-space form."""
    face_index = np.full((height, width), -1)
    depth = np.full((height, width), np.inf)
    barycentric = np.zeros((height, width, 3))
    for number, (a, b, c) in enumerate(vertices[faces]):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0 or (area > 0 and not backfaces):
            continue
        for row in range(height):
            for column in range(width):
                w_b = ((column - a[0]) * (c[1] - a[1]) - (row - a[1]) * (c[0] - a[0])) / area
                w_c = ((b[0] - a[0]) * (row - a[1]) - (b[1] - a[1]) * (column - a[0])) / area
                weights = np.array([1 - w_b - w_c, w_b, w_c])
                z = weights @ [a[2], b[2], c[2]]
                if (weights > 0).all() and z < depth[row, column]:
                    face_index[row, column], depth[row, column], barycentric[row, column] = number, z, weights
    return face_index, barycentric, depth


def test_right_triangle_by_hand():
    # right angle in the picture's corner (-0.5, -0.5), legs of 4 pixels: middles with x + y < 3
    vertices = np.array([[-0.5, -0.5, 1.0], [-0.5, 3.5, 2.0], [3.5, -0.5, 3.0]])
    face_index, barycentric, depth = rasterize(vertices, np.array([[0, 1, 2]]), 5, 5)
    # middles on the long side, x + y = 3, are right ends of half-open spans and stay out
    expected = [[0, 0, 0, -1, -1], [0, 0, -1, -1, -1], [0, -1, -1, -1, -1], [-1] * 5, [-1] * 5]
    assert face_index.tolist() == expected
    np.testing.assert_allclose(barycentric[0, 1], [1 - 0.125 - 0.375, 0.125, 0.375], atol=1e-12)
    assert depth[0, 1] == pytest.approx(0.5 * 1 + 0.125 * 2 + 0.375 * 3, abs=1e-12)
    assert np.isinf(depth[4, 4]) and (barycentric[4, 4] == 0).all()


def test_nearest_triangle_wins_whatever_the_order():
    square = np.array([[0, 0], [8, 0], [8, 8], [0, 8]]) - 0.5
    near, far = np.c_[square, np.full(4, 1.0)], np.c_[square, np.full(4, -3.0)]
    vertices = np.concatenate([near, far])
    quad = np.array([[0, 2, 1], [0, 3, 2]])
    for faces, expected in ((np.concatenate([quad, quad + 4]), {2, 3}), (np.concatenate([quad + 4, quad]), {0, 1})):
        face_index, _, depth = rasterize(vertices, faces, 8, 8)
        assert set(np.unique(face_index)) == expected
        assert (depth == -3.0).all()


def test_equal_depth_goes_to_the_first_face():
    vertices = np.array([[0, 0, 0], [0, 6, 0], [6, 0, 0.0]])
    face_index, _, _ = rasterize(vertices, np.array([[0, 1, 2], [0, 1, 2], [0, 2, 1]]), 6, 6)
    assert set(np.unique(face_index)) == {-1, 0}


def test_agrees_with_a_loop_over_all_pixels():
    draw = np.random.default_rng(3)
    vertices = draw.uniform([-6, -6, 0], [30, 26, 10], size=(24, 3))
    faces = draw.integers(0, 24, size=(30, 3))
    for backfaces in (True, False):
        found = rasterize(vertices, faces, 20, 24, backfaces=backfaces)
        expected = by_loop(vertices, faces, 20, 24, backfaces)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], atol=1e-9)
        np.testing.assert_allclose(found[2], expected[2], atol=1e-9)


def test_no_cracks_and_no_double_hits_along_shared_edges():
    """A sheet of random triangles over the whole picture: every centre is hit once, also on shared edges."""
    from scipy.spatial import Delaunay

    draw = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(32.0), np.arange(32.0)), -1).reshape(-1, 2)
    chosen = grid[draw.random(len(grid)) < 0.2]  # corners exactly on middles of pixels: the worst case
    points = np.concatenate([chosen, [[-5, -5], [40, -5], [-5, 40], [40, 40]]])
    faces = Delaunay(points).simplices
    vertices = np.c_[points, np.zeros(len(points))]
    face_index, _, _ = rasterize(vertices, faces, 32, 32)
    assert (face_index >= 0).all()
    hits = sum(visible_fragments(vertices, face[None], 32, 32).pixel.size for face in faces)
    assert hits == 32 * 32


def test_backfaces_can_be_dropped():
    vertices = np.array([[1, 7, 0], [7, 7, 0], [4, 1, 0.0]])  # y down: counter-clockwise for the viewer
    front, back = np.array([[0, 1, 2]]), np.array([[0, 2, 1]])
    assert (rasterize(vertices, front, 8, 8, backfaces=False)[0] == 0).any()
    assert (rasterize(vertices, back, 8, 8, backfaces=False)[0] == -1).all()
    np.testing.assert_array_equal(rasterize(vertices, back, 8, 8)[0], rasterize(vertices, front, 8, 8)[0])


def test_outside_degenerate_and_empty():
    vertices = np.array([[50, 50, 0], [60, 50, 0], [50, 60, 0], [1, 1, 0], [2, 2, 0], [3, 3, 0.0]])
    face_index, _, _ = rasterize(vertices, np.array([[0, 1, 2], [3, 4, 5], [3, 3, 4]]), 10, 10)
    assert (face_index == -1).all()
    assert (rasterize(vertices, np.empty((0, 3), int), 4, 4)[0] == -1).all()


def test_deterministic_and_independent_of_precision_of_the_result():
    draw = np.random.default_rng(5)
    vertices, faces = draw.uniform(0, 64, size=(300, 3)), draw.integers(0, 300, size=(500, 3))
    first, second = rasterize(vertices, faces, 64, 64), rasterize(vertices, faces, 64, 64)
    for a, b in zip(first, second):
        assert a.tobytes() == b.tobytes()
    single = visible_fragments(vertices, faces, 64, 64, dtype=np.float32)
    np.testing.assert_array_equal(single.face, first[0].ravel()[single.pixel])


@pytest.mark.parametrize(
    ("vertices", "faces", "size", "words"),
    [
        (np.zeros((3, 2)), np.array([[0, 1, 2]]), (4, 4), r"\(V, 3\)"),
        (np.zeros((3, 3)), np.array([[0, 1, 3]]), (4, 4), r"0\.\.2"),
        (np.zeros((3, 3)), np.array([[0, 1, -1]]), (4, 4), r"0\.\.2, found -1\.\.1"),
        (np.zeros((3, 3)), np.array([[0.0, 1, 2]]), (4, 4), "integers"),
        (np.zeros((3, 3)), np.array([[0, 1, 2, 0]]), (4, 4), "integers"),
        (np.zeros((3, 3)), np.array([[[0, 1, 2]] * 3]), (4, 4), "integers"),
        (np.full((3, 3), np.nan), np.array([[0, 1, 2]]), (4, 4), "finite"),
        (np.zeros((3, 3)), np.array([[0, 1, 2]]), (0, 4), "1 x 1"),
        (np.zeros((3, 3)), np.array([[0, 1, 2]]), (4, 0), "1 x 1"),
    ],
)
def test_wrong_input_is_refused(vertices, faces, size, words):
    with pytest.raises(ValueError, match=words):
        rasterize(vertices, faces, *size)


def test_a_mask_leaves_out_pixels_and_changes_none():
    rng = np.random.default_rng(4)
    vertices = np.column_stack([rng.uniform(-5, 45, (60, 2)), rng.uniform(0, 9, 60)])
    faces = rng.integers(0, 60, (80, 3))
    everything = visible_fragments(vertices, faces, 32, 40)
    for share in (0.0, 0.1, 1.0):
        mask = rng.uniform(size=(32, 40)) < share
        kept = mask.ravel()[everything.pixel]
        for whole, part in zip(everything, visible_fragments(vertices, faces, 32, 40, mask=mask)):
            np.testing.assert_array_equal(whole[kept], part)
    for mask in (np.ones((40, 32), bool), np.ones((32, 40))):
        with pytest.raises(ValueError, match=r"mask: expected \(32, 40\) bool"):
            visible_fragments(vertices, faces, 32, 40, mask=mask)


def test_every_single_pixel_can_be_asked_for():
    draw = np.random.default_rng(6)
    vertices, faces = draw.uniform(-1, 7, (12, 3)), draw.integers(0, 12, (9, 3))
    everything = visible_fragments(vertices, faces, 5, 6)
    for pixel in range(30):
        mask = np.zeros(30, bool)
        mask[pixel] = True
        found = visible_fragments(vertices, faces, 5, 6, mask=mask.reshape(5, 6))
        for whole, part in zip(everything, found):
            np.testing.assert_array_equal(whole[everything.pixel == pixel], part)


def test_a_picture_of_one_pixel():
    vertices = np.array([[-1.5, -1.5, 2], [-1.5, 2.5, 2], [2.5, -1.5, 2]])
    face_index, barycentric, depth = rasterize(vertices, np.array([[0, 1, 2]]), 1, 1)
    assert face_index.tolist() == [[0]] and depth.tolist() == [[2.0]]
    np.testing.assert_allclose(barycentric, [[[0.25, 0.375, 0.375]]])


def test_all_fragments_are_those_of_each_triangle_alone(monkeypatch):
    draw = np.random.default_rng(7)
    vertices, faces = draw.uniform(-4, 30, (40, 3)), draw.integers(0, 40, (60, 3))
    expected = [(p, k) for k, face in enumerate(faces) for p in visible_fragments(vertices, face[None], 20, 24).pixel]
    for block in (1 << 20, 100):
        monkeypatch.setattr("face4d.render.zbuffer._BLOCK", block)
        parts = list(all_fragments(vertices, faces, 20, 24))
        assert (len(parts) > 1) == (block == 100) and max(len(pixel) for pixel, _ in parts) < max(block, 600)
        found = [(p, k) for pixel, triangle in parts for p, k in zip(pixel, triangle)]
        assert found == expected and len(found) > 500
    assert [len(pixel) for pixel, _ in all_fragments(vertices, faces[:0], 20, 24)] in ([], [0])


def test_single_precision_is_worked_out_in_double():
    draw = np.random.default_rng(8)
    vertices, faces = draw.uniform(0, 64, (90, 3)).astype(np.float32), draw.integers(0, 90, (120, 3))
    for single, double in zip(
        rasterize(vertices, faces, 64, 64), rasterize(vertices.astype(np.float64), faces, 64, 64)
    ):
        np.testing.assert_array_equal(single, double)


def test_small_depths_are_told_apart():
    corners = np.array([[0, 0], [0, 9], [9, 0.0]])
    vertices = np.concatenate([np.c_[corners, np.full(3, depth)] for depth in (2e-9, 1e-9, 3e-9)])
    face_index, _, _ = rasterize(vertices, np.arange(9).reshape(3, 3), 8, 8)
    assert set(np.unique(face_index)) == {-1, 1}
