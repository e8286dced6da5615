"""Sequences of scans, made of the demo head that opens its mouth and moves: every frame another mesh."""

import json
import runpy

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from face4d.demo.expressions import deform, weights_of
from face4d.demo.head import demo_head, identity_weights
from face4d.errors import InputError
from face4d.landmarks import extract
from face4d.mesh.ply import read_ply, write_ply
from face4d.photos import face_networks
from face4d.registration import tracking
from face4d.registration.nonrigid import Anchors
from face4d.registration.pipeline import register_scan
from face4d.registration.scan import clean_scan
from face4d.registration.template import load_template
from face4d.registration.tracking import track
from tests.conftest import REPOSITORY

TEMPLATE = load_template("demo")
WHO = identity_weights(3, 1)
STRENGTHS = (0.0, 0.3, 0.6, 0.9)


def posed(level, frame):
    """Vertices (V, 3) metres in a frame: mouth, a turn of the head, a step aside."""
    head = demo_head(level)
    moved = deform(head, head.neutral(WHO), STRENGTHS[frame] * weights_of("mouth_open"))
    turn = Rotation.from_euler("y", 5 * frame, degrees=True).as_matrix()
    return moved @ turn.T + [0.004 * frame, 0, 0]


@pytest.fixture(scope="module")
def motion():
    """Scans in centimetres, their triangles, and where the template's vertices truly are, in metres."""
    rng = np.random.default_rng(0)
    scans = []
    for frame in range(len(STRENGTHS)):
        order = rng.permutation(len(demo_head(1).mean))
        vertices = posed(1, frame)[order] + rng.normal(0, 0.0001, (len(order), 3))
        faces = np.argsort(order)[demo_head(1).faces]
        scans.append((100 * vertices, faces[rng.random(len(faces)) > 0.01]))
    return scans, [posed(0, frame) for frame in range(len(STRENGTHS))]


@pytest.fixture(scope="module")
def first(motion):
    (points, faces), *_ = motion[0]
    embedding = TEMPLATE.embedding
    known = Anchors(embedding.corners, embedding.bary, 100 * extract(embedding, motion[1][0]), np.ones(68))
    return register_scan("scan", clean_scan("scan", points, faces), TEMPLATE, known)


def tracked(first, scans):
    named = ((f"scan {number}", clean_scan("scan", *scan)) for number, scan in enumerate(scans, 1))
    return list(track(first, TEMPLATE, named))


def test_each_frame_follows_the_one_before_without_drift(motion, first, monkeypatch):
    monkeypatch.setattr(tracking, "installed", lambda: False)
    scans, truth = motion
    heads = [first, *(found for found, led in tracked(first, scans[1:]) if not led)]
    assert len(heads) == 4 and all(head.unit == "centimetres" for head in heads)
    off = np.stack([head.vertices - first.placed.apply(100 * true) for head, true in zip(heads, truth)])  # (T, V, 3)
    face = np.linalg.norm(TEMPLATE.vertices - TEMPLATE.landmarks[17:].mean(axis=0), axis=1) < 0.08
    drift = 1e3 * np.median(np.linalg.norm(off[1:] - off[0], axis=2)[:, face], axis=1)
    moved = 1e3 * np.median(np.linalg.norm(truth[-1] - truth[0], axis=1)[face])
    assert drift.max() < 1.5 and moved > 10
    assert max(head.residuals["face"].median for head in heads) < 0.5
    lips = extract(TEMPLATE.embedding, heads[-1].vertices)[[62, 66]]
    true_lips = extract(TEMPLATE.embedding, truth[-1])[[62, 66]]
    assert np.linalg.norm(lips[0] - lips[1]) == pytest.approx(np.linalg.norm(true_lips[0] - true_lips[1]), abs=0.004)


@pytest.mark.skipif(not face_networks.installed(), reason="needs the networks of photos")
def test_a_scan_far_from_the_one_before_is_found_by_its_face(motion, first, caplog):
    points, faces = motion[0][2]
    turn = Rotation.from_euler("y", 50, degrees=True).as_matrix()
    ((found, led),) = tracked(first, [(points @ turn.T + [3, 1, 2], faces)])
    true = first.placed.apply(100 * motion[1][2] @ turn.T + [3, 1, 2])
    assert led and 1e3 * np.median(np.linalg.norm(found.vertices - true, axis=1)) < 4 and not caplog.records


def test_what_is_lost_is_said(motion, first, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "installed", lambda: False)
    points, faces = motion[0][2]
    turn = Rotation.from_euler("y", 120, degrees=True).as_matrix()
    ((_, led),) = tracked(first, [(points @ turn.T, faces)])
    assert not led and "scan 1" in caplog.text and "look at it" in caplog.text


def test_script(motion, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "installed", lambda: False)
    scans, truth = motion
    for number, (points, faces) in enumerate(scans[:3], 7):
        write_ply(tmp_path / "scans" / f"a.{number:02d}.ply", points.astype(np.float32), faces.astype(np.int32))
    np.save(tmp_path / "landmarks.npy", 100 * extract(TEMPLATE.embedding, truth[0]))
    main = runpy.run_path(str(REPOSITORY / "Reconstruction" / "register.py"))["main"]
    command = [str(tmp_path / "scans"), "--output", str(tmp_path / "heads"), "--flame", "demo", "--quiet"]
    command += ["--landmarks", str(tmp_path / "landmarks.npy")]
    main(command)
    said = capsys.readouterr().out.splitlines()
    assert (
        "in centimetres" in said[0]
        and said[-2].startswith("3 frames, the face seen in 0 of")
        and said[-1].startswith("wro")
    )
    names = sorted(path.name for path in (tmp_path / "heads").iterdir())
    assert names[:3] == ["a.07.ply", "a.08.ply", "a.09.ply"] and {"registration.json", "registration.png"} <= {*names}
    vertices, faces = read_ply(tmp_path / "heads" / "a.09.ply")
    assert np.array_equal(faces, TEMPLATE.faces) and np.ptp(vertices, axis=0).max() < 0.5
    record = json.loads((tmp_path / "heads" / "registration.json").read_text())
    assert record["unit"] == "centimetres" and list(record["frames"]) == ["a.07.ply", "a.08.ply", "a.09.ply"]
    with pytest.raises(InputError, match="--overwrite"):
        main(command)
    (tmp_path / "scans" / "a.08.ply").unlink()
    with pytest.raises(InputError, match="frame 8 after"):
        main([*command, "--overwrite"])
    (tmp_path / "scans" / "a.08.ply").write_bytes(b"ply")
    with pytest.raises(InputError, match=r"a\.08\.ply"):
        main([*command, "--overwrite"])
    assert sorted(path.name for path in (tmp_path / "heads").iterdir()) == names  # as before
