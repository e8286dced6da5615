"""Registration of scans made of the demo head: another person, another mesh, another unit and place."""

import json
import runpy

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from face4d.demo.head import demo_head, identity_weights
from face4d.dense.edge_collapse import collapse_edges
from face4d.errors import InputError
from face4d.landmarks import extract
from face4d.mesh.geometry import closest_points
from face4d.mesh.ply import read_ply, write_ply
from face4d.photos import face_networks
from face4d.registration import views
from face4d.registration.nonrigid import Anchors, match, register
from face4d.registration.pipeline import align, landmark_anchors, named_unit, register_scan
from face4d.registration.scan import Scan, clean_scan, read_scan
from face4d.registration.template import load_template
from tests.conftest import REPOSITORY

TEMPLATE = load_template("demo")
PERSON = demo_head(0).neutral(identity_weights(3, 1))  # of the template's order: the truth
LANDMARKS = extract(TEMPLATE.embedding, PERSON)


@pytest.fixture(scope="module")
def fine() -> tuple[np.ndarray, np.ndarray]:
    """The same person as a mesh of another topology, (V, 3) metres and (F, 3)."""
    head = demo_head(1)
    vertices = head.neutral(identity_weights(3, 1))
    kept, faces = collapse_edges(vertices, head.faces.astype(np.int64), 2000)
    return vertices[kept], faces


def scanned(fine, *, noise=0.0, cut=None):
    """A scan, in millimetres, z up, beside the origin; with the landmarks in it and the truth's vertices."""
    vertices, faces = fine
    vertices = vertices + np.random.default_rng(0).normal(0, noise, vertices.shape)
    if cut is not None:
        faces = faces[cut(vertices)[faces].all(axis=1)]
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    return [1000 * (points @ turn.T + [0.1, 0.2, 0.3]) for points in (vertices, LANDMARKS, PERSON)], faces


def anchors(landmarks):
    return Anchors(TEMPLATE.embedding.corners, TEMPLATE.embedding.bary, landmarks, np.ones(68))


def scores(found, truth, where=slice(None)):
    """Median distances of the vertices from where they belong and from the surface, millimetres."""
    truth = found.placed.apply(truth)
    away = closest_points(found.vertices.astype(float), truth, TEMPLATE.faces).distance
    return 1e3 * np.median(np.linalg.norm(found.vertices - truth, axis=1)[where]), 1e3 * np.median(away[where])


def test_a_scan_of_another_topology_unit_and_place_gets_the_templates_vertices(fine):
    (points, landmarks, truth), faces = scanned(fine)
    found = register_scan("scan", clean_scan("scan", points, faces), TEMPLATE, anchors(landmarks))
    assert found.unit == "millimetres" and found.placed.scale == 0.001
    assert found.turned == "+z up, looking along -y"
    off, away = scores(found, truth)
    before = np.median(np.linalg.norm(found.placed.apply(truth) - found.size * TEMPLATE.vertices, axis=1))
    assert off < 2.0 and away < 0.5 and off < 1e3 * before / 2
    assert found.residuals["face"].median < 0.5 and found.residuals["face"].covered > 0.8  # teeth lie behind
    assert found.vertices.dtype == np.float32 and found.vertices.shape == TEMPLATE.vertices.shape


def test_noise_and_missing_parts_cost_little_on_what_is_there(fine):
    cheek = extract(TEMPLATE.embedding, PERSON)[[3, 31]].mean(axis=0)
    (points, landmarks, truth), faces = scanned(
        fine, noise=0.0003, cut=lambda v: (v[:, 2] > -0.05) & (np.linalg.norm(v - cheek, axis=1) > 0.012)
    )
    found = register_scan("scan", clean_scan("scan", points, faces), TEMPLATE, anchors(landmarks))
    face = np.linalg.norm(PERSON - LANDMARKS[17:].mean(axis=0), axis=1) < 0.09
    off, away = scores(found, truth, face)
    assert off < 3 and away < 0.7
    assert found.residuals["rest"].covered < 0.8
    assert np.linalg.norm(found.vertices - found.placed.apply(truth), axis=1).max() < 0.06  # no wild extrapolation


def test_what_lies_on_the_end_of_a_scan_does_not_pull():
    flat = np.stack([*np.meshgrid(np.arange(6.0), np.arange(6.0)), np.zeros((6, 6))], axis=-1).reshape(-1, 3)
    corner = np.arange(25) + np.arange(25) // 5
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 7], 1), np.stack([corner, corner + 7, corner + 6], 1)]
    )
    scan = Scan.of(flat, faces)
    points = np.array([[2.5, 2.5, 0.2], [7.0, 2.5, 0.0], [2.5, 2.5, -9.0]])
    found = match(points, np.tile([0.0, 0, 1], (3, 1)), scan, 3.0)
    assert found.valid.tolist() == [True, False, False]
    assert found.distance[:2] == pytest.approx([0.2, 2.0]) and scan.border.sum() == 20
    assert not match(points, np.tile([0.0, 0, -1], (3, 1)), scan, 3.0).valid.any()  # the other side


def test_loose_parts_move_with_what_is_near_them(fine):
    (points, landmarks, _), faces = scanned(fine)
    onto, _ = align(TEMPLATE, anchors(landmarks))
    scan = clean_scan("scan", points, faces).moved(0.001, np.eye(3), np.zeros(3))
    start = 0.001 * onto.apply(TEMPLATE.vertices)
    result = register(start, TEMPLATE.faces, scan, anchors(0.001 * landmarks))
    eye = demo_head(0).kind == 3
    before, after = (np.linalg.norm(part - part.mean(axis=0), axis=1) for part in (start[eye], result[eye]))
    assert after / before == pytest.approx(np.full(eye.sum(), (after / before).mean()), rel=0.1)


def test_wrong_points_among_the_anchors_are_outvoted():
    wrong = 1000 * LANDMARKS
    wrong[[20, 40, 60]] += 80
    onto, misfit = align(TEMPLATE, anchors(wrong))
    straight, _ = align(TEMPLATE, anchors(1000 * LANDMARKS))
    assert onto.scale == pytest.approx(straight.scale, rel=0.03) and misfit < 0.2


@pytest.mark.parametrize(
    ("scale", "name"), [(1, "metres"), (9.2, "decimetres"), (110, "centimetres"), (980, "millimetres"), (37, "inches")]
)
def test_units_by_the_size_of_the_head(scale, name):
    unit, metres, size = named_unit(scale)
    assert unit == name and size == pytest.approx(scale * metres)


def test_a_scan_in_no_unit_gets_the_templates_size():
    unit, metres, size = named_unit(4e4)
    assert unit.startswith("no usual unit") and metres * 4e4 == pytest.approx(1) and size == 1


def test_cleaning_joins_turns_and_drops(fine):
    vertices, faces = fine
    soup = vertices[faces].reshape(-1, 3)  # every triangle with its own corners, as STL has them
    crumb = np.array([[0.3, 0, 0], [0.301, 0, 0], [0.3, 0.001, 0]])
    scan = clean_scan(
        "scan",
        np.concatenate([soup, crumb]),
        np.concatenate([np.arange(len(soup)).reshape(-1, 3)[:, ::-1], [[len(soup), len(soup) + 1, len(soup) + 2]]]),
    )
    assert len(scan.vertices) <= len(vertices) and len(scan.faces) <= len(faces)
    outward = scan.vertices - scan.vertices.mean(axis=0)
    assert (np.einsum("vk,vk->v", scan.normals, outward) > 0).mean() > 0.7


def test_a_very_fine_scan_becomes_coarser(monkeypatch, fine):
    monkeypatch.setattr("face4d.registration.scan._MOST_FACES", 1000)
    scan = clean_scan("scan", *fine)
    assert 300 < len(scan.faces) < 2500
    assert np.ptp(scan.vertices, axis=0) == pytest.approx(np.ptp(fine[0], axis=0), abs=0.02)


def test_what_is_no_surface_is_refused(tmp_path, fine):
    write_ply(tmp_path / "points.ply", fine[0].astype(np.float32), np.zeros((0, 3), np.int32))
    with pytest.raises(InputError, match=r"points\.ply.*triangles.*2000 points"):
        read_scan(tmp_path / "points.ply")
    with pytest.raises(InputError, match="all points in one place"):
        clean_scan("scan", np.zeros((9, 3)), np.zeros((3, 3), int))
    with pytest.raises(InputError, match="200 triangles or more"):
        clean_scan("scan", fine[0], fine[1][:50])


def test_landmarks_that_are_none_of_the_scan_are_refused(tmp_path, fine):
    (points, landmarks, _), faces = scanned(fine)
    scan = clean_scan("scan", points, faces)
    with pytest.raises(InputError, match="lie on the scan"):
        register_scan("scan", scan, TEMPLATE, anchors(landmarks + 100))
    for bad, found in ((landmarks[:60], "shape"), (landmarks[::-1], "order"), (landmarks * [-1, 1, 1], "mirror")):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(InputError, match=found):
            landmark_anchors(tmp_path / "bad.npy", TEMPLATE)
    np.save(tmp_path / "good.npy", landmarks)
    assert landmark_anchors(tmp_path / "good.npy", TEMPLATE).targets == pytest.approx(landmarks, abs=1e-3)


def test_the_template_has_landmarks(tmp_path, fine):
    write_ply(tmp_path / "other.ply", fine[0].astype(np.float32), fine[1].astype(np.int32))
    with pytest.raises(InputError, match="--landmark-embedding FILE"):
        load_template("demo", tmp_path / "other.ply")
    with pytest.raises(InputError, match="--template FILE"):
        load_template("demo", None, tmp_path / "landmarks.npz")
    write_ply(tmp_path / "person.ply", PERSON.astype(np.float32), TEMPLATE.faces)
    assert load_template("demo", tmp_path / "person.ply").landmarks == pytest.approx(LANDMARKS, abs=1e-6)


def test_without_networks_the_message_says_both_ways_out(monkeypatch, fine):
    monkeypatch.setattr(views, "installed", lambda: False)
    with pytest.raises(InputError, match=r"--landmarks FILE.*pip install"):
        views.find_on_scan("scan", clean_scan("scan", *fine))


needs_networks = pytest.mark.skipif(not face_networks.installed(), reason="needs the networks of photos")


@needs_networks
def test_a_face_is_found_from_whatever_side_and_lifted_to_the_surface(fine):
    (points, _, truth), faces = scanned(fine, noise=0.0002)
    turn = Rotation.from_euler("xyz", [0.2, 2.0, 1.0]).as_matrix()
    scan = clean_scan("scan", points @ turn.T, faces)
    known = views.view_anchors("scan", scan, TEMPLATE)
    off = np.linalg.norm(known.targets - known.on(truth) @ turn.T, axis=1)
    assert len(known.weights) > 350 and np.median(off) < 4
    assert np.median(closest_points(known.targets, scan.vertices, scan.faces).distance) < 1


@needs_networks
def test_a_ball_has_no_face(monkeypatch):
    monkeypatch.setattr(views, "_axes", lambda: [np.eye(3)])
    monkeypatch.setattr(views, "_diagonals", list)
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, 41), np.linspace(-1.5, 1.5, 21))
    ball = np.stack([np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)], -1)
    corner = (np.arange(20)[:, None] * 41 + np.arange(40)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 42], 1), np.stack([corner, corner + 42, corner + 41], 1)]
    )
    with pytest.raises(InputError, match="--landmarks FILE.*no face"):
        views.find_on_scan("ball", clean_scan("ball", ball.reshape(-1, 3), faces))


def test_script(tmp_path, fine, capsys):
    (points, landmarks, _), faces = scanned(fine)
    write_ply(tmp_path / "scan.ply", points.astype(np.float32), faces.astype(np.int32))
    np.save(tmp_path / "landmarks.npy", landmarks)
    main = runpy.run_path(str(REPOSITORY / "Reconstruction" / "register.py"))["main"]
    command = [str(tmp_path / "scan.ply"), "--output", str(tmp_path / "me.ply"), "--flame", "demo", "--quiet"]
    command += ["--landmarks", str(tmp_path / "landmarks.npy")]
    main(command)
    said = capsys.readouterr().out
    assert "in millimetres, +z up" in said and said.splitlines()[-4] == f"wrote {tmp_path / 'me.ply'}"
    vertices, own_faces = read_ply(tmp_path / "me.ply")
    assert np.array_equal(own_faces, TEMPLATE.faces) and np.ptp(vertices, axis=0).max() < 0.5
    record = json.loads((tmp_path / "me.json").read_text())
    assert record["unit"] == "millimetres" and record["residuals_mm"]["face"]["median"] < 1
    assert (tmp_path / "me.png").stat().st_size > 10_000
    assert len(read_ply(tmp_path / "me_scan.ply")[0]) > 1500
    with pytest.raises(InputError, match="--overwrite"):
        main(command)
    with pytest.raises(InputError, match=r"\.ply"):
        main([command[0], "--output", str(tmp_path / "me.obj")])


def test_ears_and_eyelids_of_the_demo_head_keep_their_shape():
    """On a scan without either: the eyes closed and the ears gone."""
    head, held = demo_head(0), TEMPLATE.held
    size = np.square(TEMPLATE.directions).sum(axis=2)
    assert 0.1 < held.mean() < 0.3 and (size[:, held].sum(axis=1) <= 0.5 * size.sum(axis=1)).all()
    ears = held & (np.abs(head.p) > 80)
    flat = TEMPLATE.vertices.copy()
    flat[ears, 0] = np.sign(flat[ears, 0]) * 0.070  # into the side of the head
    lids = held & ~ears
    flat[lids, 1] = flat[lids, 1].mean()
    scan = clean_scan("flat", 1.05 * flat, TEMPLATE.faces)
    result = register(1.05 * TEMPLATE.vertices, TEMPLATE.faces, scan, anchors(1.05 * LANDMARKS), held=held)
    for part in (ears & (head.side > 0), ears & (head.side < 0)):
        ear = result[part] - result[part].mean(axis=0)
        wanted = 1.05 * (TEMPLATE.vertices[part] - TEMPLATE.vertices[part].mean(axis=0))
        assert np.linalg.norm(ear - wanted, axis=1).max() < 0.004
    found, open_eye = extract(TEMPLATE.embedding, result[None])[0], LANDMARKS
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        gap = np.linalg.norm(found[upper] - found[lower]) / np.linalg.norm(open_eye[upper] - open_eye[lower])
        assert gap > 0.8
