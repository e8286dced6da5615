"""Spirals: small meshes by hand, the published ones of the FLAME template."""

import numpy as np
import pytest

from face4d.dense.spirals import Connectivity, build_spirals, default_references, shortest_paths
from face4d.runtime.safe_pickle import load_pickle

# A closed fan: vertex 0 in the middle of a hexagon 1..6, counter-clockwise seen from +z.
HEXAGON = np.array([[0, 0, 0], *([np.cos(a), np.sin(a), 0] for a in np.arange(6) * np.pi / 3)])
FAN = np.array([[0, i, i % 6 + 1] for i in range(1, 7)])


def grid(columns, rows):
    """Vertices and triangles of a flat grid, numbered along x first; every square is cut from its lower left to its
    upper right corner."""
    y, x = np.divmod(np.arange(columns * rows), columns)
    corner = np.array([j * columns + i for j in range(rows - 1) for i in range(columns - 1)])
    right, up, across = corner + 1, corner + columns, corner + columns + 1
    faces = np.concatenate([np.stack([corner, right, across], axis=1), np.stack([corner, across, up], axis=1)])
    return np.stack([x, y, 0 * x], axis=1).astype(float), faces


def test_a_closed_ring_begins_towards_the_reference_and_goes_round():
    vertices = HEXAGON.copy()
    vertices[4] *= 1.5  # so that the path from 0 to it is not the shortest edge
    spirals = build_spirals(vertices, FAN, [4])
    assert spirals[0].tolist() == [0, 4, 5, 6, 1, 2]  # cut: mean and deviation of the seven lengths allow six


def test_a_boundary_vertex_has_a_gap_between_the_halves_of_its_ring():
    rows = build_spirals(HEXAGON, FAN, [0])
    # Around 2 from 0, the reference: the triangle (0, 1, 2) comes first and runs 2 -> 0, so 1; then, the other way, 3.
    assert rows[2].tolist() == [2, 0, 1, -1, 3, -1]
    # Around 1 the first triangle, (0, 1, 2), does not run 1 -> 0, so the second: 6; then 2.
    assert rows[1].tolist() == [1, 0, 6, -1, 2, -1] and (rows[-1] == -1).all()


def test_second_ring_and_dilation_of_an_inner_vertex():
    vertices, faces = grid(7, 7)
    plain = build_spirals(vertices, faces, [0], rings=2)
    centre = 24
    first, second = plain[centre, 1:7].tolist(), plain[centre, 7:].tolist()
    assert first[0] == 16  # along the diagonal, the shortest way to vertex 0
    assert sorted(first) == [16, 17, 23, 25, 31, 32]
    assert set(second) - {-1} <= {8, 9, 10, 15, 18, 22, 26, 30, 33, 38, 39, 40}
    around = [first.index(vertex) for vertex in (16, 17, 25, 32, 31, 23)]
    # consecutive neighbours of the hexagon, one sense or the other
    assert around in ([0, 1, 2, 3, 4, 5], [0, 5, 4, 3, 2, 1])
    dilated = build_spirals(vertices, faces, [0], rings=2, dilation=2)
    assert dilated[centre, :4].tolist() == [centre, first[0], first[2], first[4]]


def test_length_is_mean_plus_two_deviations():
    vertices, faces = grid(5, 4)
    spirals = build_spirals(vertices, faces, [0])
    assert spirals.shape[0] == 21 and (spirals[:-1, 0] == np.arange(20)).all()
    degree = [len(set(faces[(faces == v).any(axis=1)].ravel())) - 1 for v in range(20)]
    # Rings of open edges carry a -1, so lengths lie between the degree + 1 and + 2.
    low, high = np.add(degree, 1), np.add(degree, 2)
    assert int(low.mean() + 2 * low.std()) <= spirals.shape[1] <= int(high.mean() + 2 * max(low.std(), high.std()))


def test_paths_are_shortest_and_the_last_reference_counts():
    vertices, faces = grid(4, 3)
    before, distance = shortest_paths(Connectivity(vertices, faces), [11, 0])
    np.testing.assert_allclose(distance[[0, 3, 5, 11]], [0, 3, 2**0.5, 1 + 2 * 2**0.5])
    assert before[0] == -1 and before[5] == 0 and before[2] == 1


def test_default_references_are_the_foremost_vertices_of_components():
    two = np.concatenate([HEXAGON, HEXAGON + (5, 0, 0)])
    two[3, 2], two[9, 2] = 0.5, 0.2
    assert default_references(two, np.concatenate([FAN, FAN + 7])) == [3, 9]


def test_rings_other_than_one_or_two_are_refused():
    with pytest.raises(ValueError, match="1 or 2 rings"):
        build_spirals(HEXAGON, FAN, [0], rings=3)


@pytest.mark.parametrize("level", range(1, 5))
def test_published_spirals_are_met_exactly(shared_data, reference, level):
    vectors = reference("c05_spirals")
    vertices, faces = load_pickle(shared_data / "flame_assets" / "downsampling_matrices.pkl")["M_verts_faces"][level]
    references = vectors[f"reference_points_level{level}"].tolist()
    rings = 2 if level < 2 else 1
    np.testing.assert_array_equal(
        build_spirals(vertices, faces, references, rings, rings), vectors[f"spirals_level{level}"]
    )
    ordered = build_spirals(vertices, faces, references, rings, rings, set_order=False)
    differing = set(np.flatnonzero((ordered != vectors[f"spirals_level{level}"]).any(axis=1)).tolist())
    # The rows that depend on the order of sets, from the notes to the vectors.
    assert differing <= (
        {9, 13, 70, 88, 132, 155, 157, 164, 183, 270, 283, 297, 352, 398, 403, 481, 684, 689} if level == 1 else set()
    )
