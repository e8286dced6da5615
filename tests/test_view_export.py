"""From displacements to files, with a decoder that can be computed by hand; and test.py's way there."""

import json
import runpy
import shutil
from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from face4d.commands import cli
from face4d.errors import InputError
from face4d.landmarks import extract, load_embedding, save_embedding
from face4d.mesh.ply import write_ply
from face4d.mesh.sequence import frame_paths, read_mesh
from face4d.view.export import FORMATS, export_mesh, load_dense_decoder, load_dense_face
from tests.conftest import REPOSITORY, read_sequence, toy_sequence, write_landmarks
from tests.test_correspondence import embedding_of

pytest.importorskip("pygltflib")
pytest.importorskip("imageio_ffmpeg")


class Spread:
    """A decoder that moves every vertex as the landmark closest to it in the neutral face."""

    def __init__(self, embedding):
        self.embedding = embedding

    def decode(self, displacements, neutral):
        points = extract(self.embedding, neutral)
        nearest = np.linalg.norm(neutral[:, None] - points, axis=2).argmin(axis=1)
        return (neutral + displacements[:, nearest]).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder: two heads of one shape and their link, a generator trained for a moment on landmarks of the
    coarse head."""
    from face4d.correspondence import fit_embedding, save_correspondence
    from face4d.datasets.landmark_set import load_split
    from face4d.demo.head import demo_head
    from face4d.generation.config import PRESETS
    from face4d.runtime.run_folder import Run
    from tests.conftest import load_script

    folder = tmp_path_factory.mktemp("export")
    coarse, fine = demo_head(0), demo_head(1)
    own = embedding_of(coarse)
    save_embedding(folder / "own.npz", own)
    (folder / "actors").mkdir()
    for subject in ("CH01", "CH03", "me"):
        write_ply(folder / "actors" / f"{subject}.ply", coarse.mean, coarse.faces)
    write_ply(folder / "turned.ply", coarse.mean, coarse.faces[:, ::-1])
    write_ply(folder / "head.ply", fine.mean, fine.faces)
    write_ply(folder / "mm_head.ply", 1000 * fine.mean, fine.faces)
    write_ply(folder / "mm.ply", 1000 * coarse.mean, coarse.faces)
    write_ply(folder / "mirrored.ply", coarse.mean * [-1, 1, 1], coarse.faces)
    (folder / "odd_actors").mkdir()
    for subject, unit in (("CH01", 100), ("CH03", 1)):
        write_ply(folder / "odd_actors" / f"{subject}.ply", unit * coarse.mean, coarse.faces)
    save_correspondence(folder / "head.npz", fit_embedding(own, coarse.mean, fine.mean, fine.faces))
    landmarks = write_landmarks(folder / "landmarks", ("Happy", "Rage"), ("CH01", "CH03"), 9)
    face = extract(own, coarse.mean)
    for path in landmarks.iterdir():
        motion = np.load(path)
        np.save(path, (face + motion - motion[0]).astype(np.float32))
    shutil.copytree(landmarks, folder / "odd_landmarks")
    np.save(folder / "odd_landmarks" / "Happy_CH01.npy", np.load(landmarks / "Happy_CH01.npy") / 0.0254)
    np.save(folder / "mm.npy", 1000 * face)
    split = load_split(landmarks, test_subjects=("CH01",))
    config = PRESETS["default"].with_settings({"hidden_size": 8, "epochs": 2})
    source = {
        "dataset": "florence",
        "landmarks": "landmarks",
        "test_subjects": ["CH01"],
        "landmark_embedding": "own.npz",
    }
    load_script("main.py").train(
        replace(split, source=source), config, Run("x", folder / "models", folder / "runs", quiet=True)
    )
    np.save(folder / "me.npy", toy_sequence(0, 8, 3)[0])
    (folder / "models" / "dense_florence_regional.pt").write_bytes(b"stands for a decoder")
    return folder


@pytest.fixture
def script(place, monkeypatch):
    """test.py's main, in the working folder, with a decoder computed by hand."""
    decode = pytest.importorskip("face4d.dense.decode")
    monkeypatch.setattr(decode, "load_decoder", lambda path, device="cpu": Spread(load_embedding(place / "own.npz")))
    monkeypatch.chdir(place)
    main = runpy.run_path(str(REPOSITORY / "test.py"))["main"]
    yield lambda *arguments: main(["--checkpoint", "models/x.pt", "--quiet", "--size", "64", *arguments])
    shutil.rmtree(place / "Generated_Animation", ignore_errors=True)


def test_one_command_from_a_label_to_all_files(place, script):
    script("--actor", "actors/me.ply", "--label", "Happy", "--dense", "--export", "glb,mp4,ply,gif,png")
    folder = place / "Generated_Animation" / "x_own" / "me_Happy"
    names = [
        "Happy_me.gif",
        "Happy_me.glb",
        "Happy_me.mp4",
        "Happy_me.npy",
        "Happy_me_mesh.gif",
        "Happy_me_meshes",
        "Happy_me_sheet.png",
    ]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "made.json"]
    vertices, faces = read_sequence(frame_paths(folder / "Happy_me_meshes"))
    neutral, own_faces = read_mesh(place / "actors" / "me.ply")
    landmarks = np.load(folder / "Happy_me.npy")
    np.testing.assert_array_equal(faces, own_faces)
    np.testing.assert_array_equal(vertices[0], neutral)
    decoder = Spread(load_embedding(place / "own.npz"))
    np.testing.assert_allclose(vertices, decoder.decode(landmarks - landmarks[0], neutral), atol=1e-6)
    assert np.ptp(vertices, axis=0).max() > 1e-5
    with pytest.raises(InputError, match="--overwrite"):
        script("--actor", "actors/me.ply", "--label", "Happy", "--dense")


def test_labels_of_one_face_are_one_glb_too(place, script):
    """An animation for every label; made again only when one of them changes."""
    pygltflib = pytest.importorskip("pygltflib")
    command = ["--actor", "actors/me.ply", "--dense", "--export", "glb", "--no-gif", "--label"]
    script(*command, "Happy")
    own = place / "Generated_Animation" / "x_own"
    assert not (own / "me_all").exists()
    script(*command, "Happy", "Rage")
    path = own / "me_all" / "me_all.glb"
    found = pygltflib.GLTF2().load(str(path))
    assert [animation.name for animation in found.animations] == ["Happy", "Rage"]
    assert found.meshes[0].extras["targetNames"][:2] == ["Happy", "Rage"] and found.meshes[0].name == "me_all"
    written = path.stat().st_mtime_ns
    script(*command, "Happy", "Rage")
    assert path.stat().st_mtime_ns == written
    path.unlink()
    with pytest.raises(InputError, match="me_all.*--overwrite"):
        script(*command, "Happy", "Rage")
    script(*command, "Happy", "Rage", "--overwrite")
    assert path.is_file()


def test_another_head_makes_the_motion(place, script):
    arguments = [
        "--label",
        "Rage",
        "--dense",
        "--target",
        "head.ply",
        "--target-embedding",
        "head.npz",
        "--export",
        "ply",
        "--no-gif",
    ]
    script(*arguments, "--output", "alone")
    script(*arguments, "--output", "acted", "--actor", "actors/me.ply")
    alone, faces = read_sequence(frame_paths(place / "alone" / "head_Rage" / "Rage_head_meshes"))
    acted, _ = read_sequence(frame_paths(place / "acted" / "head_Rage" / "Rage_head_meshes"))
    target, target_faces = read_mesh(place / "head.ply")
    np.testing.assert_array_equal(faces, target_faces)
    np.testing.assert_array_equal(alone[0], target)
    np.testing.assert_allclose(acted, alone, atol=1e-6)  # the actor is the registered copy

    landmarks = np.load(place / "alone" / "head_Rage" / "Rage_head.npy")
    np.testing.assert_allclose(landmarks, extract(load_embedding(place / "head.npz"), alone), atol=1e-6)
    shutil.rmtree(place / "alone"), shutil.rmtree(place / "acted")


def test_the_face_of_a_photo_is_an_actor(place, script, monkeypatch):
    """The reconstruction has tests of its own; here it answers with a known face."""
    from face4d.deca import reconstruction as deca
    from face4d.photos import face_networks

    monkeypatch.setattr(face_networks, "installed", lambda: False)  # with them, the demo head would be fitted
    asked = []
    mesh = read_mesh(place / "actors" / "me.ply")
    known = {"colours": np.ones(mesh[0].shape)}
    monkeypatch.setattr(
        deca,
        "neutral_from_photo",
        lambda photo, encoder, face: asked.append((photo, encoder, face)) or (*mesh, known),
    )
    script(
        "--photo",
        "face.jpg",
        "--box",
        "1",
        "2",
        "30",
        "40",
        "--label",
        "Happy",
        "--dense",
        "--export",
        "ply",
        "--no-gif",
        "--output",
        "pictured",
    )
    script(
        "--actor", "actors/me.ply", "--label", "Happy", "--dense", "--export", "ply", "--no-gif", "--output", "acted"
    )
    assert [str(photo) for photo, _, _ in asked] == ["face.jpg"] and asked[0][2][:4] == (1, 2, 30, 40)
    np.testing.assert_array_equal(read_mesh(place / "pictured" / "face.ply")[0], mesh[0])
    pictured, acted = (
        np.load(place / name) for name in ("pictured/face_Happy/Happy_face.npy", "acted/me_Happy/Happy_me.npy")
    )
    np.testing.assert_array_equal(pictured, acted)
    with pytest.raises(SystemExit):
        script("--photo", "face.jpg", "--actor", "actors/me.ply", "--label", "Happy")
    shutil.rmtree(place / "pictured"), shutil.rmtree(place / "acted")


def test_an_actor_that_is_a_scan_is_registered_and_kept(place, script, monkeypatch, capsys):
    """Its landmarks are given here in place of the networks', which may not be installed."""
    from face4d.correspondence import load_correspondence
    from face4d.registration import views
    from face4d.registration.nonrigid import Anchors

    own = load_embedding(place / "own.npz")
    scanned, faces = read_mesh(place / "head.ply")
    write_ply(place / "scan.ply", (100 * scanned).astype(np.float32), faces)  # another topology, in centimetres
    known = 100 * load_correspondence(place / "head.npz").registered
    asked = []
    monkeypatch.setattr(
        views,
        "view_anchors",
        lambda path, *_: asked.append(path) or Anchors(own.corners, own.bary, extract(own, known), np.ones(68)),
    )
    call = ["--label", "Happy", "--dense", "--export", "ply", "--no-gif", "--actor", "scan.ply", "--register"]
    with pytest.raises(InputError, match="--actors: expected a folder with a neutral head"):
        script(*call)
    call += ["--actors", "actors", "--output", "scanned"]
    script(*call, "--dry-run")
    assert not (place / "scanned").exists() and not asked
    script(*call)
    head, own_faces = read_mesh(place / "scanned" / "scan.ply")
    np.testing.assert_array_equal(own_faces, own.faces)
    assert 1e3 * np.median(np.linalg.norm(head - known / 100, axis=1)) < 3  # in metres, in the topology's order
    vertices, _ = read_sequence(frame_paths(place / "scanned" / "scan_Happy" / "Happy_scan_meshes"))
    np.testing.assert_array_equal(vertices[0], head)
    assert json.loads((place / "scanned" / "scan.json").read_text())["unit"] == "centimetres"
    assert "in centimetres" in capsys.readouterr().out
    script(*call[:-2], "--output", "scanned", "--frames", "5", "--overwrite")  # what is known already is used
    assert asked == [Path("scan.ply")] and "registered before" in capsys.readouterr().out
    write_ply(place / "scan.ply", (90 * scanned).astype(np.float32), faces)
    with pytest.raises(InputError, match=r"scanned/scan.ply: .*registered head of this scan \(--overwrite"):
        script(*call)
    with pytest.raises(InputError, match="outside of the folder"):
        script(*call[:-2], "--output", ".")
    with pytest.raises(SystemExit):
        script("--register", "--photo", "face.jpg", "--label", "Happy")
    shutil.rmtree(place / "scanned"), (place / "scan.ply").unlink()


def test_an_actor_of_another_size_moves_a_head_in_proportion(place):

    own = load_embedding(place / "own.npz")
    neutral, faces = read_mesh(place / "actors" / "me.ply")
    write_ply(place / "small.ply", 0.8 * neutral, faces)
    displacement = np.random.default_rng(0).normal(0, 1e-3, (2, 68, 3)).astype(np.float32)
    options = {"target": place / "head.ply", "target_embedding": place / "head.npz"}
    full, small = (
        load_dense_face(Spread(own), own, place / name, **options) for name in ("actors/me.ply", "small.ply")
    )
    assert small.scale == pytest.approx(1.25, abs=1e-4) and full.scale == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(small.move(0.8 * displacement), full.move(displacement), atol=1e-5)


def test_the_test_set_takes_its_neutral_meshes_from_actors(place, script):
    with pytest.raises(InputError, match=r"--dense: expected --actors DIR"):
        script("--dense")
    script("--dense", "--actors", "actors", "--export", "ply", "--no-gif")
    folder = place / "Generated_Animation" / "x"
    assert sorted(path.name for path in folder.iterdir()) == ["CH01_Happy", "CH01_Rage"]
    vertices, _ = read_sequence(frame_paths(folder / "CH01_Rage" / "Rage_CH01_meshes"))
    assert vertices.shape[0] == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--actor", "head.ply", "--label", "Happy", "--dense"],
            "--register here, or by: .*register.py head.ply --output head_registered.ply --template HEAD.ply --land",
        ),
        (["--actor", "turned.ply", "--label", "Happy", "--dense"], "turned.ply: .*flipped"),
        (["--actor", "me.npy", "--label", "Happy", "--dense"], "me.npy: expected a neutral mesh .* no surface"),
        (
            ["--actor", "actors/me.ply", "--label", "Happy", "--dense", "models/none.pt"],
            "models/none.pt: .*Sparse2Dense/main.py.*no such file",
        ),
        (
            ["--label", "Happy", "--dense", "--target", "head.ply"],
            "head.ply: expected --target-embedding FILE .*face4d landmarks",
        ),
        (
            ["--label", "Happy", "--dense", "--target", "head.ply", "--target-embedding", "none.npz"],
            "none.npz: .*no such file",
        ),
        (
            ["--label", "Happy", "--dense", "--target", "head.ply", "--target-embedding", "own.npz"],
            "own.npz: .*face4d landmarks",
        ),
        (
            ["--label", "Happy", "--dense", "--target", "actors/me.ply", "--target-embedding", "head.npz"],
            "me.ply: expected the mesh .* fitted to",
        ),
        (
            ["--actor", "mm.ply", "--label", "Happy"],
            r"mm.ply: expected a face in metres .*millimetres \(times 0.001 gives metres\)",
        ),
        (["--actor", "mm.ply", "--label", "Happy", "--dense"], "mm.ply: .*millimetres"),
        (["--actor", "mm.npy", "--label", "Happy"], "mm.npy: .*millimetres"),
        (["--actor", "turned.ply", "--label", "Happy"], "turned.ply: .*flipped"),
        (["--actor", "mirrored.ply", "--label", "Happy"], "mirrored.ply: .*mirrored"),
        (["--actors", "odd_actors"], "CH01.ply: .*centimetres"),
        (["--landmarks", "odd_landmarks"], "Happy_CH01.npy: .*frame 0 .*inches"),
        (
            ["--label", "Happy", "--dense", "--target", "mm_head.ply", "--target-embedding", "head.npz"],
            "mm_head.ply: .*millimetres",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(place, script, arguments, words):
    with pytest.raises(InputError, match=words):
        script(*arguments)
    assert not (place / "Generated_Animation").exists()


@pytest.mark.parametrize(
    "arguments", [["--label", "Happy"], ["--actor", "me.npy"], ["--export", "glb"], ["--dense", "--export", "obj"]]
)
def test_flags_that_do_not_go_together(script, arguments, capsys):
    with pytest.raises(SystemExit):
        script(*arguments)
    assert "error:" in capsys.readouterr().err


def test_formats():
    parse = cli.some_of(FORMATS)
    assert parse("glb, MP4,glb") == ("glb", "mp4")
    for wrong in ("glb,obj", " ,"):
        with pytest.raises(ArgumentTypeError, match="glb,mp4,ply,gif,png"):
            parse(wrong)


def test_a_shorter_sequence_leaves_no_old_frames(tmp_path):
    vertices, faces = np.random.default_rng(0).normal(size=(5, 4, 3)), np.array([[0, 1, 2], [0, 2, 3]])
    export_mesh(tmp_path / "a", "x", vertices, faces, ("ply",))
    (tmp_path / "a_meshes" / "mine.txt").write_text("stays")
    export_mesh(tmp_path / "a", "x", vertices[:2], faces, ("ply",))
    assert sorted(path.name for path in (tmp_path / "a_meshes").iterdir()) == [
        "mine.txt",
        "x.000001.ply",
        "x.000002.ply",
    ]


def test_missing_decoder_says_how_to_train_one(tmp_path):
    with pytest.raises(InputError, match="Sparse2Dense/main.py"):
        load_dense_decoder(tmp_path / "none.pt")
