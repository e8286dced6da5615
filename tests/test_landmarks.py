"""Landmarks: reference values, the FLAME files (read without running anything in them), other topologies."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.landmarks import (
    DYNAMIC_FILE,
    NO_TRIANGLES,
    STATIC_FILE,
    TEMPLATE_FILE,
    LandmarkEmbedding,
    check_mesh,
    contour_row,
    extract,
    extract_files,
    load_embedding,
    load_flame_embedding,
    read_head,
    save_embedding,
)
from face4d.mesh.obj import read_obj, write_obj
from face4d.mesh.plausibility import Remark, face_size
from face4d.mesh.ply import read_ply, write_ply
from tests.conftest import toy_head

REFERENCE = np.load(Path(__file__).parent / "reference" / "c04_landmarks.npz")
V, F = 40, 60


def _arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = lambda *shape: rng.dirichlet(np.ones(3), shape)  # noqa: E731
    return {
        "faces": np.stack([rng.permutation(V)[:3] for _ in range(F)]).astype(np.int32),
        "template": rng.normal(0, 0.1, (V, 3)).round(6),
        "static_idx": rng.integers(0, F, 51).astype(np.uint32),
        "static_bary": weights(51),
        "contour_idx": rng.integers(0, F, (79, 17)).astype(np.uint32),
        "contour_bary": weights(79, 17),
    }


def _flame_folder(folder: Path) -> dict[str, np.ndarray]:
    arrays = _arrays()
    arrays["faces"][0] = [0, 1, V - 1]
    folder.mkdir(exist_ok=True)
    write_obj(folder / TEMPLATE_FILE, arrays["template"], arrays["faces"])
    static = {"lmk_face_idx": arrays["static_idx"], "lmk_b_coords": arrays["static_bary"]}
    (folder / STATIC_FILE).write_bytes(pickle.dumps(static, protocol=2))
    dynamic = {"lmk_face_idx": arrays["contour_idx"], "lmk_b_coords": arrays["contour_bary"]}
    np.save(folder / DYNAMIC_FILE, np.array(dynamic, dtype=object), allow_pickle=True)
    return arrays


def test_landmarks_are_barycentric_points_contour_first(tmp_path):
    arrays = _flame_folder(tmp_path)
    embedding = load_flame_embedding(tmp_path, contour_angle=-11)
    corners = arrays["template"][arrays["faces"]]
    expected = [(b[:, None] * corners[f]).sum(0) for f, b in zip(arrays["contour_idx"][50], arrays["contour_bary"][50])]
    expected += [(b[:, None] * corners[f]).sum(0) for f, b in zip(arrays["static_idx"], arrays["static_bary"])]
    result = extract(embedding, arrays["template"])
    assert embedding.num_vertices == V and result.dtype == np.float64
    np.testing.assert_allclose(result, expected, atol=1e-12)
    batch = np.stack([arrays["template"], 2 * arrays["template"]])[None].astype(np.float32)
    assert extract(embedding, batch).shape == (1, 2, 68, 3) and extract(embedding, batch).dtype == np.float32
    np.testing.assert_allclose(extract(embedding, batch)[0, 1], 2 * np.array(expected), atol=1e-7)


def test_contour_rows_of_the_reference():
    assert [contour_row(angle) for angle in REFERENCE["contour_degrees"]] == REFERENCE["contour_index"].tolist()
    assert contour_row(0.4) == 0 and contour_row(-38.7) == 78
    for angle in (40, -40, 39.5, np.nan):
        with pytest.raises(InputError, match="-39 to 39 degrees"):
            contour_row(angle)


def test_reference_landmarks_of_all_actors(shared_data):
    embedding = load_flame_embedding(shared_data / "flame_assets")
    for name, expected in zip(REFERENCE["all12_names"], REFERENCE["all12_landmarks"], strict=True):
        vertices, faces = read_ply(shared_data / "actors" / f"{name}.ply")
        np.testing.assert_array_equal(faces, embedding.faces)
        np.testing.assert_allclose(extract(embedding, vertices.astype(np.float64)), expected, atol=1e-9)
        np.testing.assert_allclose(extract(embedding, vertices), expected, atol=1e-7)
        np.testing.assert_allclose(
            extract_files(embedding, [shared_data / "actors" / f"{name}.ply"])[0], expected, atol=1e-7
        )
    template, _ = read_obj(shared_data / "flame_assets" / TEMPLATE_FILE)
    np.testing.assert_allclose(extract(embedding, template), REFERENCE["template_landmarks"], atol=1e-9)


def test_reference_contours_and_the_sign_of_the_angle(shared_data):
    vertices = read_ply(shared_data / "actors" / f"{REFERENCE['mesh_names'][0]}.ply")[0].astype(np.float64)
    front = extract(load_flame_embedding(shared_data / "flame_assets"), vertices)
    for angle, expected in zip(REFERENCE["contour_degrees"], REFERENCE["contour_landmarks"]):
        points = extract(load_flame_embedding(shared_data / "flame_assets", float(angle)), vertices)
        np.testing.assert_allclose(points[:17], expected, atol=1e-9)
        np.testing.assert_array_equal(points[17:], front[17:])
    moved = extract(load_flame_embedding(shared_data / "flame_assets", 39), vertices)[:17] - front[:17]
    assert moved[front[:17, 0] > 0.02, 2].min() > 0.01  # positive: the left cheek's points go forward
    assert moved[front[:17, 0] < -0.02, 2].max() < 0


def test_same_embedding_without_pickles(shared_data):
    own = load_embedding(shared_data / "flame_assets" / "landmark_embedding_68.npz")
    flame = load_flame_embedding(shared_data / "flame_assets")
    assert own.num_vertices == flame.num_vertices == 5023
    np.testing.assert_array_equal(own.corners, flame.corners)


@pytest.mark.parametrize("name", [STATIC_FILE, DYNAMIC_FILE, TEMPLATE_FILE])
def test_missing_flame_file_says_where_from_and_where_to(tmp_path, name):
    _flame_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="models/README.md") as error:
        load_flame_embedding(tmp_path)
    assert error.value.path == str(tmp_path / name)
    assert "repository" in str(error.value)


class _Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_malicious_pickles_are_refused_and_not_run(tmp_path):
    trace = tmp_path / "executed"
    _flame_folder(tmp_path)
    content = {"lmk_face_idx": _Malicious(trace), "lmk_b_coords": np.zeros((51, 3))}
    (tmp_path / STATIC_FILE).write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=STATIC_FILE):
        load_flame_embedding(tmp_path)
    _flame_folder(tmp_path)
    np.save(tmp_path / DYNAMIC_FILE, np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=DYNAMIC_FILE):
        load_flame_embedding(tmp_path)
    assert not trace.exists()
    pickle.loads((tmp_path / DYNAMIC_FILE).read_bytes()[128:])  # the pickle would have worked
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "without them"),
        ({"lmk_face_idx": np.zeros(51, int)}, "without them"),
        ({"lmk_face_idx": np.zeros(50, int), "lmk_b_coords": np.ones((50, 3)) / 3}, r"\(51,\)"),
        ({"lmk_face_idx": np.full(51, F), "lmk_b_coords": np.ones((51, 3)) / 3}, f"face numbers 0 to {F - 1}"),
        ({"lmk_face_idx": np.zeros(51, int), "lmk_b_coords": np.ones((51, 3))}, "sum to 1"),
        ({"lmk_face_idx": np.zeros(51, int), "lmk_b_coords": np.full((51, 3), np.nan)}, "sum to 1"),
    ],
)
def test_wrong_content_of_the_static_file(tmp_path, content, message):
    _flame_folder(tmp_path)
    (tmp_path / STATIC_FILE).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=message) as error:
        load_flame_embedding(tmp_path)
    assert error.value.path == str(tmp_path / STATIC_FILE)


def test_own_embedding_round_trip_and_errors(tmp_path):
    _flame_folder(tmp_path)
    embedding = load_flame_embedding(tmp_path)
    save_embedding(tmp_path / "own.npz", embedding)
    again = load_embedding(tmp_path / "own.npz")
    np.testing.assert_array_equal(again.corners, embedding.corners)
    np.testing.assert_array_equal(again.at_contour_angle(7).corners, embedding.at_contour_angle(7).corners)
    bare = {"face_idx": embedding.face_idx, "bary": embedding.bary, "faces": embedding.faces}
    np.savez(tmp_path / "bare.npz", **bare)
    loaded = load_embedding(tmp_path / "bare.npz")
    assert loaded.num_vertices == V and loaded.at_contour_angle(0) is loaded
    with pytest.raises(InputError, match="no contour table"):
        loaded.at_contour_angle(5)
    for change, message in [
        ({"bary": None}, "no bary"),
        ({"faces": embedding.faces[:, :2]}, "faces"),
        ({"face_idx": embedding.face_idx + F}, "face numbers"),
        ({"face_idx": np.where(np.arange(68) == 20, -1, embedding.face_idx)}, "face numbers .* found -1 to"),
        ({"bary": np.tile([-0.2, 0.6, 0.6], (68, 1))}, "weights from 0 to 1 that sum to 1, found -0.2 to 0.6"),
        ({"face_idx": np.where(np.arange(68) == 20, F, embedding.face_idx)}, f"found 0 to {F}|found 1 to {F}"),
        ({"bary": np.tile([1, 0, 0], (68, 1))}, "floating weights"),
        ({"num_vertices": np.array(3)}, "num_vertices above"),
        ({"num_vertices": np.array(V - 1)}, f"num_vertices above {V - 1}"),  # the largest index itself is one too few
        ({"face_idx": np.array([_Malicious(tmp_path / "executed")], dtype=object)}, "npz"),
    ]:
        np.savez(tmp_path / "bad.npz", allow_pickle=True, **{k: v for k, v in (bare | change).items() if v is not None})
        with pytest.raises(InputError, match=message):
            load_embedding(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK no zip")
    for path in (tmp_path / "bad.npz", tmp_path / "none.npz"):
        with pytest.raises(InputError, match="landmark embedding"):
            load_embedding(path)
    assert not (tmp_path / "executed").exists()


def test_another_topology_is_an_error(tmp_path):
    _flame_folder(tmp_path)
    embedding = load_flame_embedding(tmp_path)
    with pytest.raises(InputError, match=r"expected \(40, 3\) vertices.* found \(39, 3\)"):
        extract(embedding, np.zeros((2, 39, 3)))
    write_ply(tmp_path / "a.1.ply", np.zeros((39, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="a.1.ply: expected 40 vertices, found 39"):
        extract_files(embedding, [tmp_path / "a.1.ply"])


def test_a_mesh_that_enters_is_checked():
    vertices, faces = toy_head()
    embedding = LandmarkEmbedding(np.arange(68), np.full((68, 3), 1 / 3), faces, len(vertices))
    middles = vertices.reshape(68, 3, 3).mean(axis=1)
    np.testing.assert_allclose(check_mesh("a.ply", vertices, faces, embedding), middles, atol=1e-12)
    assert check_mesh("a.ply", vertices.astype(np.float32), faces[:0], embedding).dtype == np.float32
    with pytest.raises(InputError, match=r"the topology of the landmarks \(204 vertices, 68 triangles\), found its"):
        check_mesh("a.ply", vertices, faces[:, ::-1], embedding)
    with pytest.raises(InputError, match="a.ply: expected the head .* found 203 vertices"):
        check_mesh("a.ply", vertices[1:], faces, embedding, "the head")
    with pytest.raises(InputError, match="millimetres"):
        check_mesh("a.ply", 1000 * vertices, faces, embedding)
    with pytest.raises(InputError, match="mirrored"):
        check_mesh("a.ply", vertices * [-1, 1, 1], faces, embedding)
    around = np.tile([[1, 0, 0], [0, 1, 0], [-1, -1, 0.0]], (68, 1))  # triangles whose middles are in one place
    with pytest.raises(InputError, match="all points in one place"):
        check_mesh("a.ply", around, faces, embedding)
    mixed = np.random.default_rng(0).permutation(vertices)
    corners = mixed[faces]
    sides = np.linalg.norm(corners[:, 1:] - corners[:, :1], axis=2).max(axis=1)  # the longer one from the first corner
    ratio = sides.mean() / face_size(corners.mean(axis=1))
    with pytest.raises(InputError, match=f"in the order of .*, found triangles {ratio:.1f} times as large as the face"):
        check_mesh("a.ply", mixed, faces, embedding)


def test_a_head_is_read_with_what_is_odd_about_it(tmp_path, caplog):
    vertices, faces = toy_head()
    embedding = LandmarkEmbedding(np.arange(68), np.full((68, 3), 1 / 3), faces, len(vertices))
    write_ply(tmp_path / "head.ply", vertices, faces)
    write_ply(tmp_path / "points.ply", vertices, faces[:0])
    write_ply(tmp_path / "lying.ply", vertices[:, [0, 2, 1]] * [1, 1, -1], faces)
    found, landmarks = read_head(tmp_path / "head.ply", embedding)
    np.testing.assert_array_equal(found, vertices.astype(np.float32))
    np.testing.assert_allclose(landmarks, vertices.reshape(68, 3, 3).mean(axis=1), atol=1e-7)
    assert not caplog.messages
    remarks: list[Remark] = []
    read_head(tmp_path / "points.ply", embedding, remarks)
    assert remarks == [Remark(NO_TRIANGLES, str(tmp_path / "points.ply"))] and not caplog.messages
    read_head(tmp_path / "lying.ply", embedding)
    (message,) = caplog.messages
    assert "does not stand upright" in message and "lying.ply (turned by 90 degrees)" in message


def test_files_give_what_arrays_give(tmp_path):
    arrays = _flame_folder(tmp_path)
    embedding = load_flame_embedding(tmp_path)
    assert isinstance(embedding, LandmarkEmbedding)
    motion = np.random.default_rng(3).normal(0, 0.1, (5, V, 3)).astype(np.float32)
    for k, vertices in enumerate(motion):
        write_ply(tmp_path / f"x.{k}.ply", vertices, arrays["faces"])
        write_obj(tmp_path / f"x.{k}.obj", vertices, arrays["faces"])
    np.testing.assert_array_equal(
        extract_files(embedding, [tmp_path / f"x.{k}.ply" for k in range(5)]), extract(embedding, motion)
    )
    np.testing.assert_allclose(
        extract_files(embedding, [tmp_path / f"x.{k}.obj" for k in range(5)]), extract(embedding, motion), atol=2e-8
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_vertices": np.array(np.nan)}, "a whole num_vertices above 3"),
        ({"num_vertices": np.array(-1)}, "a whole num_vertices above 3"),
        ({"num_vertices": np.array("four")}, "a whole num_vertices above 3"),
        ({"num_vertices": np.array(4.0)}, "a whole num_vertices above 3"),
        ({"num_vertices": np.array([4, 4])}, "a whole num_vertices above 3"),
        ({"num_vertices": np.array(2**62)}, "a whole num_vertices above 3"),
        ({"faces": np.array([[0, 1, 2], [0, 1, -3]])}, "vertex indices from 0"),
        ({"faces": np.array([[0, 1, 2], [0, 1, 2**40]])}, "vertex indices from 0"),
        ({"faces": np.array(["a"])}, "faces"),
        ({"faces": np.zeros((0, 3), int)}, "faces"),
        ({"bary": np.full((68, 3), np.nan)}, "barycentric weights from 0 to 1"),
        ({"bary": np.tile([np.inf, 0.5, 0.5], (68, 1))}, "barycentric weights from 0 to 1"),
        ({"bary": np.tile([2.0, -1.0, 0.0], (68, 1))}, "barycentric weights from 0 to 1"),
        ({"bary": np.array("x")}, "floating weights"),
        ({"face_idx": np.arange(68) % 2 + 0.5}, "integers"),
        ({"contour_bary": None}, "both contour_face_idx and contour_bary"),
        ({"contour_bary": np.array(1.0)}, "floating weights"),
    ],
)
def test_fields_of_an_embedding_are_checked(tmp_path, changes, message):
    from tests.fuzzing.arrays import embedding_arrays

    np.savez(tmp_path / "whole.npz", **embedding_arrays())
    assert load_embedding(tmp_path / "whole.npz").num_vertices == 4
    np.savez(
        tmp_path / "a.npz",
        **{name: array for name, array in (embedding_arrays() | changes).items() if array is not None},
    )
    with pytest.raises(InputError, match=message):
        load_embedding(tmp_path / "a.npz")


def test_an_embedding_that_is_no_archive_is_one_line(tmp_path):
    np.save(tmp_path / "points.npy", np.zeros((68, 3)))
    (tmp_path / "text.npz").write_text("0 1 2\n")
    for name, found in (
        ("points.npy", r"a single array \(.npy\)"),
        ("text.npz", "a file that is no archive"),
        ("none.npz", "no such file"),
    ):
        with pytest.raises(InputError, match=rf"{name}: expected a landmark embedding .*, found .*{found}"):
            load_embedding(tmp_path / name)
