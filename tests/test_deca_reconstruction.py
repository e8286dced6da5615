"""Encoder files, faces of photos, the files written for them, videos and the data set for GAN inversion."""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from face4d.deca.checkpoints import CHECKPOINT_KIND, load_encoder
from face4d.deca.config import EncoderConfig
from face4d.deca.face_model import load_face_model
from face4d.deca.inversion import InversionOptions, moved_codes, projection, smoothed, write_inversion_set
from face4d.deca.networks import NUM_DETAIL, DetailGenerator, Encoder
from face4d.deca.reconstruction import PhotoFace, Reconstructor, as_batch, decoded, neutral_from_photo, reconstruct
from face4d.deca.rendered_faces import render_faces
from face4d.deca.results import ResultWriter
from face4d.deca.train import build_network, code_layout, true_points
from face4d.errors import InputError
from face4d.mesh.obj import read_obj
from face4d.mesh.ply import read_ply
from face4d.photos.crops import FaceBox
from face4d.photos.faces import FaceFinder, landmark_nme, name_results, photo_paths
from face4d.render.lit import to_pixels, to_screen
from face4d.runtime.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def face():
    return load_face_model("demo")


@pytest.fixture(scope="module")
def checkpoint(face, tmp_path_factory):
    """An encoder that answers with a small random code, whatever it sees."""
    torch.manual_seed(3)
    layout = code_layout(face)
    network = build_network(layout, EncoderConfig(hidden=16))
    faces = render_faces(face, layout, 6, 64, 5, quiet=True)
    network.fit_scale(faces.codes, true_points(face, faces, network.vertices))
    path = tmp_path_factory.mktemp("encoder") / "deca_demo.pt"
    identity = {
        "config": {"backbone": "small", "hidden": 16, "image_size": 64},
        "layout": layout.as_dict(),
        "face_fingerprint": list(face.fingerprint),
    }
    save_checkpoint(
        path,
        CHECKPOINT_KIND,
        {**identity, "source": {"face_model": "demo"}, "model": network.state_dict(), "metrics": {}},
    )
    return path


@pytest.fixture(scope="module")
def reconstructor(checkpoint, face):
    return Reconstructor(load_encoder(checkpoint), face)


@pytest.fixture(scope="module")
def true_face(face, reconstructor):
    """A rendered photo with its true code, as an encoder without errors would give it."""
    faces = render_faces(face, reconstructor.encoder.layout, 4, 160, 11, quiet=True)
    photo = faces.pictures()[1].permute(1, 2, 0).numpy()
    points = to_pixels(faces.landmarks[1], 160).numpy()
    picture = reconstruct(reconstructor, photo, points)
    code = faces.code[1:2]
    crop = replace(picture.crop, scale=1.0, shift=(0.0, 0.0), size=160)
    found = decoded(reconstructor.face, code)
    places = [crop.to_photo(found.in_crop(p, 160)[0].numpy().astype(float)) for p in (found.vertices, found.landmarks)]
    return PhotoFace(photo, crop, found, *places)


def test_own_checkpoint_gives_what_the_trained_network_gave(checkpoint, face, reconstructor):
    record = torch.load(checkpoint, weights_only=True)
    network = build_network(reconstructor.encoder.layout, EncoderConfig(hidden=16))
    network.load_state_dict(record["model"])
    pictures = torch.rand(2, 3, 64, 64)
    wanted = reconstructor.encoder.layout.split(network.eval()(pictures).detach())
    found = reconstructor.encode(pictures)
    for name, value in wanted.as_dict().items():
        torch.testing.assert_close(found.as_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert reconstructor.encode(torch.rand(1, 3, 224, 224)).pose.shape == (1, 6)  # any size


def test_published_weights_are_read_by_group(tmp_path, caplog, face):
    torch.manual_seed(0)
    groups = {"E_flame": Encoder(236), "E_detail": Encoder(NUM_DETAIL), "D_detail": DetailGenerator()}
    content = {name: network.state_dict() for name, network in groups.items()}
    torch.save({**content, "opt": {"state": 1}, "epoch": 3}, tmp_path / "deca_model.tar")
    loaded = load_encoder(tmp_path / "deca_model.tar")
    assert loaded.layout.total == 236 and loaded.face_model == "models/flame" and loaded.fingerprint is None
    for name, network in (
        ("E_flame", loaded.coarse),
        ("E_detail", loaded.detail_encoder),
        ("D_detail", loaded.detail_generator),
    ):
        assert all(torch.equal(value, content[name][key]) for key, value in network.state_dict().items())

    published = replace(face, uv=replace(face.uv, is_published=True))
    found = Reconstructor(loaded, published)(torch.rand(1, 3, 224, 224))
    assert found.displacement.shape == (1, 256, 256) and found.displacement.abs().max() <= 0.01
    assert Reconstructor(loaded, face).detail_encoder is None and "no texture layout" in caplog.text

    torch.save({"E_flame": content["E_flame"]}, tmp_path / "coarse.tar")
    assert load_encoder(tmp_path / "coarse.tar").detail_encoder is None and "no E_detail and D_detail" in caplog.text
    damaged = {key: value for key, value in content["E_flame"].items() if "layer4" not in key}
    torch.save({**content, "E_flame": damaged}, tmp_path / "less.tar")
    with pytest.raises(InputError, match="E_flame: .*none named encoder.layer4.0.conv1.weight"):
        load_encoder(tmp_path / "less.tar")


def test_missing_and_foreign_weights_are_one_line(tmp_path, monkeypatch, checkpoint, face):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"models/deca_model.tar: expected .*deca_train.py.*found no such file"):
        load_encoder()
    (tmp_path / "x.tar").write_bytes(b"nothing")
    with pytest.raises(InputError, match="unreadable"):
        load_encoder("x.tar")
    save_checkpoint(tmp_path / "g.pt", "generator", {})
    with pytest.raises(InputError, match="generator"):
        load_encoder("g.pt")
    with pytest.raises(InputError, match="the model it was trained for"):
        Reconstructor(load_encoder(checkpoint), replace(face, fingerprint=(1.0,)))


def test_placed_vertices_are_where_the_photo_shows_the_face(true_face, reconstructor):
    picture, crop = true_face.photo, true_face.crop
    world = torch.cat([true_face.face.vertices[0], torch.ones(len(true_face.placed), 1)], dim=1).numpy()
    np.testing.assert_allclose(world @ projection(true_face).T, true_face.placed, atol=1e-2)
    again = reconstruct(reconstructor, picture, FaceBox(20, 20, 130, 140))
    screen = to_screen(again.face.vertices, again.face.code.camera)
    np.testing.assert_allclose(
        again.crop.to_crop(again.placed), to_pixels(screen, again.crop.size)[0].numpy(), atol=1e-3
    )
    assert crop.size == 160


def test_results_of_a_photo(true_face, reconstructor, tmp_path, face):
    writer = ResultWriter.of_encoder(tmp_path, reconstructor, 128)
    detailed = replace(true_face, face=replace(true_face.face, displacement=torch.full((1, 64, 64), 0.001)))
    folder = writer.write("me", detailed)
    names = {path.name for path in folder.iterdir()}
    kinds = ("neutral", "posed", "detail")
    assert names == {f"me_{kind}.{suffix}" for kind in kinds for suffix in ("obj", "mtl", "ply")} | {
        f"me_{rest}"
        for rest in (
            "parameters.npz",
            "landmarks.npy",
            "landmarks_photo.npy",
            "depth.png",
            "texture.png",
            "overlay.png",
        )
    }
    vertices, faces = read_obj(folder / "me_neutral.obj")
    np.testing.assert_allclose(vertices, face.neutral(true_face.face.code.shape)[0], atol=1e-6)
    np.testing.assert_array_equal(faces, face.model.faces)
    np.testing.assert_allclose(read_ply(folder / "me_posed.ply")[0], true_face.face.vertices[0], atol=1e-6)
    assert np.load(folder / "me_landmarks.npy").shape == (68, 3)
    with np.load(folder / "me_parameters.npz") as arrays:
        np.testing.assert_array_equal(arrays["pose"], true_face.face.code.pose)
        assert (
            arrays["light"].shape == (1, 9, 3)
            and arrays["crop"].shape == (1, 3, 3)
            and str(arrays["face_model"]) == "demo"
        )
    with Image.open(folder / "me_overlay.png") as overlay, Image.open(folder / "me_texture.png") as texture:
        assert overlay.size == (4 * 160, 160) and texture.size == (128, 128)
        overlay = np.asarray(overlay) / 255.0
    depth = np.asarray(Image.open(folder / "me_depth.png")) > 0
    again, photo = overlay[:, 3 * 160 :], overlay[:, :160]
    assert np.median(np.abs(again - photo)[depth]) < 0.06  # the photo's own colours on the mesh look like the photo


def test_inversion_set_keeps_the_person_and_moves_the_face(true_face, reconstructor, tmp_path, face):
    others = render_faces(face, reconstructor.encoder.layout, 3, 32, 12, quiet=True).code
    options = InversionOptions(smooth=True, expression_scale=2.0, keep_eyes=True)
    quiet = {"texture_size": 128, "quiet": True}
    write_inversion_set(tmp_path, "me", true_face, others, ["a.jpg", "b.jpg", "c.jpg"], reconstructor, options, **quiet)
    kinds = ("depth", "rendered_images", "mask", "masked_rendered_images")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"me_{n:03d}_{kind}.jpg" for n in range(3) for kind in kinds
    } | {"me_parameters.json"}
    pictures = {kind: np.asarray(Image.open(tmp_path / f"me_001_{kind}.jpg")).astype(float) for kind in kinds}
    mask = pictures["mask"]
    assert mask.shape == (160, 160) and pictures["rendered_images"].shape == (160, 160, 3)
    assert pictures["masked_rendered_images"][mask < 60].max() < 25  # JPEG rings a little
    far = mask < 1
    np.testing.assert_allclose(pictures["rendered_images"][far].mean(), (true_face.photo[far] * 255).mean(), atol=3)
    record = json.loads((tmp_path / "me_parameters.json").read_text())
    frame = record["frames"][1]
    assert (
        frame["target"] == "b.jpg"
        and record["options"]["expression_scale"] == 2.0
        and np.shape(record["projection"]) == (3, 4)
    )
    np.testing.assert_allclose(frame["shape"], true_face.face.code.shape[0], atol=1e-6)
    np.testing.assert_allclose(frame["pose"][:3], true_face.face.code.pose[0, :3], atol=1e-6)
    np.testing.assert_allclose(frame["pose"][3:], others.pose[:, 3:].mean(0), atol=1e-6)
    np.testing.assert_allclose(frame["expression"], 2 * others.expression.mean(0), atol=1e-5)
    same = moved_codes(true_face.face.code, true_face.face.code, InversionOptions())
    torch.testing.assert_close(same.pose, true_face.face.code.pose)
    torch.testing.assert_close(smoothed(torch.arange(6.0)[:, None])[:, 0], torch.tensor([1.0, 1.5, 2.0, 3.0, 3.5, 4.0]))


def test_faces_are_found_by_box_or_landmarks(tmp_path):
    photo, points = np.zeros((40, 40, 3), np.float32), np.random.default_rng(0).random((68, 3)) * 40
    np.save(tmp_path / "a.npy", points)
    found, truth = FaceFinder(None, tmp_path).find(photo, "photos/a.jpg")
    np.testing.assert_array_equal(found, points)
    assert landmark_nme(points + [3.0, 4.0, 9.0], truth) == pytest.approx(5 / np.linalg.norm(points[36] - points[45]))
    assert FaceFinder((1, 2, 3, 4)).find(photo, "a.jpg") == (FaceBox(1, 2, 3, 4), None)
    np.save(tmp_path / "c.npy", points)
    (tmp_path / "c.npy").rename(tmp_path / "c.NPY")
    assert FaceFinder(None, tmp_path).file(Path("c.jpg")) == tmp_path / "c.NPY"
    with pytest.raises(InputError, match="its landmarks, b with .npy, .mat"):
        FaceFinder(None, tmp_path).find(photo, "b.jpg")
    for box in ((90, 0, 95, 5), (5, 0, 5, 9), (0, 9, 9, np.nan)):
        with pytest.raises(InputError, match="^b.jpg: expected a face box"):
            FaceFinder(box).find(photo, "b.jpg")
    np.save(tmp_path / "b.npy", np.ones((68, 2)))
    with pytest.raises(InputError, match="^b.jpg with .*b.npy: expected a face box with left < right"):
        FaceFinder(None, tmp_path).find(photo, "b.jpg")
    with pytest.raises(InputError, match="nothing of that name"):
        FaceFinder(None, tmp_path / "nowhere")
    with pytest.raises(InputError, match="one of them"):
        FaceFinder((1, 2, 3, 4), tmp_path)


def test_photos_are_listed_and_named(tmp_path, caplog):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in (
        "b.JPG",
        "a.png",
        "c.gif",
        "d.avif",
        "e.jp2",
        "._b.JPG",
        ".hidden.png",
        "f.HEIC",
        "note.txt",
        "a.NPY",
        "b.pts",
        "g.npy",
    ):
        (tmp_path / name).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert [path.name for path in photo_paths([tmp_path])] == ["a.png", "b.JPG", "c.gif", "d.avif", "e.jp2"]
    assert (
        "1 passed over, no photo that can be read here (convert it to JPEG first" in caplog.text
        and "f.HEIC" in caplog.text
    )
    assert (
        "3 passed over, no photos" in caplog.text
        and "g.npy, note.txt, pipe.jpg" in caplog.text
        and "._b" not in caplog.text
    )
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.heic").touch()
    with pytest.raises(InputError, match="found 1 HEIC pictures .convert it to JPEG"):
        photo_paths([tmp_path / "phone"])
    with pytest.raises(InputError, match="nothing of that name"):
        photo_paths([tmp_path / "no.jpg"])
    with pytest.raises(InputError, match="names differ"):
        name_results([tmp_path / "a.png", tmp_path / "other" / "a.jpg"])
    with pytest.raises(InputError, match="a name before the suffix"):
        name_results([tmp_path / "..jpg"])


def test_neutral_from_photo(true_face, checkpoint, tmp_path, face):
    Image.fromarray((true_face.photo * 255).astype(np.uint8)).save(tmp_path / "p.png")
    vertices, faces, info = neutral_from_photo(tmp_path / "p.png", checkpoint, face=FaceBox(20, 20, 130, 140))
    np.testing.assert_allclose(vertices, face.neutral(torch.as_tensor(info["shape"])[None])[0], atol=1e-6)
    assert vertices.dtype == np.float32 and faces.shape == face.model.faces.shape and info["landmarks"].shape == (68, 3)


def test_aflw_photos_go_through(shared_data, checkpoint, tmp_path):
    import runpy

    from tests.conftest import REPOSITORY

    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("image00050", "image02283"):
        for suffix in (".jpg", ".mat"):
            shutil.copyfile(shared_data / "aflw2000_sample" / (name + suffix), folder / (name + suffix))
    Image.new("RGB", (50, 50)).save(folder / "nobody.png")
    main = runpy.run_path(str(REPOSITORY / "Reconstruction" / "deca.py"))["main"]
    main(
        [
            str(folder),
            "--landmarks",
            str(folder),
            "--checkpoint",
            str(checkpoint),
            "--output",
            str(tmp_path / "out"),
            "--quiet",
            "--texture-size",
            "64",
        ]
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image00050", "image02283"]
    assert as_batch(np.zeros((5, 5, 3))).shape == (1, 3, 5, 5)


def test_video_gives_one_person_and_every_frame(true_face, reconstructor, tmp_path):
    from face4d.deca.tracking import reconstruct_frames
    from face4d.render.media import read_video, write_mp4

    frames = [np.roll((true_face.photo * 255).astype(np.uint8), shift, axis=1) for shift in (0, 2, 4)]
    write_mp4(tmp_path / "talk.mp4", frames, fps=10)
    writer = ResultWriter.of_encoder(tmp_path / "out", reconstructor, 64)
    finder = FaceFinder((20, 20, 130, 140))

    folder = reconstruct_frames(tmp_path / "talk.mp4", "talk", finder, reconstructor, writer, quiet=True)
    with np.load(folder / "talk_parameters.npz") as arrays:
        assert arrays["pose"].shape == (3, 6) and arrays["crop"].shape == (3, 3, 3) and arrays["fps"] == 10
        np.testing.assert_array_equal(arrays["shape"][0], arrays["shape"][2])
    assert np.load(folder / "talk_landmarks.npy").shape == (3, 68, 3)
    video = read_video(folder / "talk_overlay.mp4")
    drawn = list(video.frames)
    assert len(drawn) == 3 and drawn[0].shape == (160, 320, 3) and video.fps == 10
    assert (folder / "talk_neutral.obj").is_file()
    for content in (b"", b"no video at all"):
        (tmp_path / "bad.mp4").write_bytes(content)
        with pytest.raises(InputError, match="bad.mp4: expected a video"):
            list(read_video(tmp_path / "bad.mp4").frames)
    with pytest.raises(InputError, match="no such file"):
        read_video(tmp_path / "none.mp4")
