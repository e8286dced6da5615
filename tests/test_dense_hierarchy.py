"""Mesh hierarchy: what stays of the vertices, upsampling, the cache, the published matrices, templates that are no
surfaces."""

import pickle

import numpy as np
import pytest
from scipy import sparse

from face4d.demo.head import demo_head
from face4d.dense import hierarchy as module
from face4d.dense.edge_collapse import collapse_edges
from face4d.dense.hierarchy import Hierarchy, build_hierarchy, read_downsampling_matrices, template_hierarchy
from face4d.errors import InputError
from face4d.mesh.triangles import check_surface

OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)
OCTAHEDRON_FACES = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])


@pytest.fixture(scope="module")
def head():
    demo = demo_head(0)
    return demo.mean, demo.faces


@pytest.fixture(scope="module")
def hierarchy(head):
    return build_hierarchy(*head)


def upsampled(step, values):
    return (values[step.corners] * step.weights[..., None]).sum(axis=1)


def test_levels_keep_a_quarter_of_the_original_vertices(head, hierarchy):
    assert hierarchy.sizes[:3] == (871, 218, 55)
    assert hierarchy.sizes[4] < hierarchy.sizes[3] < 20
    for step, fine, coarse in zip(hierarchy.steps, hierarchy.levels, hierarchy.levels[1:]):
        np.testing.assert_array_equal(coarse.vertices, fine.vertices[step.kept])
        check_surface("level", coarse.faces)  # still manifold, still oriented
        assert set(coarse.faces.ravel()) == set(range(len(coarse.vertices)))


def test_upsampling_is_barycentric_and_exact_on_kept_vertices(hierarchy):
    for step, coarse in zip(hierarchy.steps, hierarchy.levels[1:]):
        np.testing.assert_allclose(step.weights.sum(axis=1), 1, atol=1e-12)
        assert step.weights.min() >= 0
        np.testing.assert_array_equal(upsampled(step, coarse.vertices)[step.kept], coarse.vertices)
    first = hierarchy.steps[0]
    error = np.linalg.norm(upsampled(first, hierarchy.levels[1].vertices) - hierarchy.levels[0].vertices, axis=1)
    assert error.mean() < 2e-3 and error.max() < 10e-3  # metres, at 218 of 871 vertices


def test_upsampling_stays_within_components(head, hierarchy):
    component = module.connected_components(len(head[0]), head[1])
    step = hierarchy.steps[0]
    used = step.weights > 0
    coarse_component = component[step.kept][step.corners]
    assert component.max() > 0 and (coarse_component == component[:, None])[used].all()


def test_a_flat_sheet_keeps_its_outline():
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0))
    vertices = np.stack([x, y, 0 * x], axis=2).reshape(-1, 3)
    corner = np.array([j * 9 + i for j in range(8) for i in range(8)])
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 10], axis=1), np.stack([corner, corner + 10, corner + 9], axis=1)]
    )
    kept, left = collapse_edges(vertices, faces, 5)
    assert len(kept) == 5 and {0, 8, 72, 80} <= set(kept.tolist())
    corners = vertices[kept][left]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2
    assert (area > 0).all() and area.sum() == pytest.approx(64)


def test_a_solid_is_never_collapsed_to_nothing():
    kept, left = collapse_edges(OCTAHEDRON, OCTAHEDRON_FACES, 1)
    assert len(kept) == 4 and len(left) == 4
    check_surface("tetrahedron", left)


def test_cache_gives_the_same_hierarchy_and_one_file_per_template(hierarchy, tmp_path, monkeypatch):
    head = hierarchy.levels[1].vertices, hierarchy.levels[1].faces  # 218 vertices
    made = template_hierarchy(*head, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(module, "build_hierarchy", lambda *_, **__: pytest.fail("made again"))
    again = template_hierarchy(*head, cache=tmp_path).arrays()
    for name, value in made.arrays().items():
        np.testing.assert_array_equal(again[name], value)
    monkeypatch.undo()
    template_hierarchy(OCTAHEDRON, OCTAHEDRON_FACES, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    path.write_bytes(path.read_bytes()[:1000])  # damaged: made again
    assert template_hierarchy(*head, cache=tmp_path).sizes == made.sizes
    assert path.stat().st_size > 1000


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    made = template_hierarchy(OCTAHEDRON, OCTAHEDRON_FACES, cache=tmp_path / "file")
    assert made.sizes[0] == 6 and "not cached" in caplog.text


def test_arrays_that_do_not_fit_are_refused(hierarchy):
    arrays = hierarchy.arrays()
    with pytest.raises(InputError, match="step1_weights"):
        Hierarchy.from_arrays({name: value for name, value in arrays.items() if name != "step1_weights"}, "x.npz")
    with pytest.raises(InputError, match="do not fit"):
        Hierarchy.from_arrays(arrays | {"step0_corners": arrays["step0_corners"] + 1000})
    with pytest.raises(InputError, match="mesh hierarchy"):
        Hierarchy.from_arrays({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, f: (v, np.concatenate([f, f[:1, [1, 0, 2]]])), "manifold"),
        (lambda v, f: (v, np.concatenate([f[:1, ::-1], f[1:]])), "flipped"),
        (lambda v, f: (np.concatenate([v[:1] * np.nan, v[1:]]), f), "finite"),
        (lambda v, f: (v, np.concatenate([f[:-1], [[5, 5, 0]]])), "area"),
        (lambda v, f: (v, f + 1), "vertex 6"),
        (lambda v, f: (v, f[:0]), "triangles"),
    ],
)
def test_templates_that_are_no_surface_are_refused(change, message):
    with pytest.raises(InputError, match=message) as caught:
        build_hierarchy(*change(OCTAHEDRON, OCTAHEDRON_FACES), source="head.obj")
    assert caught.value.path == "head.obj"


def test_published_matrices_of_another_template_or_content_are_refused(tmp_path):
    path = tmp_path / "downsampling_matrices.pkl"
    for content, message in (
        ({"M_verts_faces": []}, "other content"),
        (
            {
                "M_verts_faces": [(OCTAHEDRON, OCTAHEDRON_FACES)] * 2,
                "D": [sparse.identity(6).tocsc()],
                "U": [sparse.csc_matrix(np.ones((6, 6)))],
            },
            "6 weights",
        ),
        (
            {
                "M_verts_faces": [(OCTAHEDRON, OCTAHEDRON_FACES)] * 2,
                "D": [sparse.identity(5).tocsc()],
                "U": [sparse.identity(6).tocsc()],
            },
            "6 vertices",
        ),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match=message):
            read_downsampling_matrices(path, references=(0,))
    good = {
        "M_verts_faces": [(OCTAHEDRON, OCTAHEDRON_FACES)] * 2,
        "D": [sparse.identity(6).tocsc()],
        "U": [sparse.identity(6).tocsc()],
    }
    path.write_bytes(pickle.dumps(good))
    assert read_downsampling_matrices(path, references=(0,)).sizes == (6, 6)
    with pytest.raises(InputError, match="vertex 4597"):
        read_downsampling_matrices(path)
    with pytest.raises(InputError, match="the template of mine.obj"):
        template_hierarchy(
            OCTAHEDRON,
            OCTAHEDRON_FACES[:, ::-1],
            matrices=path,
            references=(0,),
            cache=tmp_path / "cache",
            source="mine.obj",
        )
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="no such file"):
        template_hierarchy(OCTAHEDRON, OCTAHEDRON_FACES, matrices=tmp_path / "none.pkl", cache=tmp_path / "cache")


def test_fields_of_published_matrices_are_checked(tmp_path):
    path = tmp_path / "downsampling_matrices.pkl"
    mesh, eye = (OCTAHEDRON, OCTAHEDRON_FACES), sparse.identity(6).tocsc()
    for changes, message in (
        ({"M_verts_faces": []}, "0 meshes"),
        ({"M_verts_faces": "text"}, "0 meshes"),
        ({"M_verts_faces": [mesh] * 3}, "3 meshes, 1 and 1 steps"),
        ({"M_verts_faces": [mesh, None]}, "mesh 1: expected vertices"),
        ({"M_verts_faces": [mesh, (OCTAHEDRON, OCTAHEDRON_FACES + 1)]}, "mesh 1: expected vertices"),
        ({"M_verts_faces": [mesh, (OCTAHEDRON, OCTAHEDRON_FACES - 1)]}, "mesh 1: expected vertices"),
        ({"M_verts_faces": [mesh, (OCTAHEDRON, np.zeros((3, 3), int))]}, "mesh 1: expected vertices"),
        ({"M_verts_faces": [mesh, (OCTAHEDRON * np.nan, OCTAHEDRON_FACES)]}, "mesh 1: expected vertices"),
        (
            {"M_verts_faces": [mesh, (OCTAHEDRON, np.tile(OCTAHEDRON_FACES, (50, 1)))]},
            "mesh 1: expected at most 64 triangles",
        ),
        ({"D": ["text"]}, "D 0: expected numbers"),
        ({"U": [eye * np.nan]}, "U 0: expected finite numbers"),
        ({"U": [None]}, "U 0: expected numbers"),
        ({"D": 3}, "2 meshes, 0 and 1 steps"),
    ):
        path.write_bytes(pickle.dumps({"M_verts_faces": [mesh] * 2, "D": [eye], "U": [eye]} | changes))
        with pytest.raises(InputError, match=message):
            read_downsampling_matrices(path, references=(0,))


@pytest.mark.parametrize(
    "name", ["level0_vertices", "level1_faces", "level2_spirals", "step0_kept", "step1_corners", "step1_weights"]
)
def test_arrays_of_a_hierarchy_are_checked_one_by_one(hierarchy, name):
    arrays = hierarchy.arrays()
    whole = arrays[name]
    for other in (
        whole[:0],
        whole.astype(str),
        whole.reshape(-1),
        whole + 10**6 if whole.dtype.kind == "i" else whole * np.nan,
        whole.astype(complex),
        np.array(1),
    ):
        if not np.array_equal(other, whole):
            with pytest.raises(InputError, match="do not fit"):
                Hierarchy.from_arrays(arrays | {name: other})
