"""Motions made for visitors of the live viewer: what test.py makes, kept, and what is wrong told in a line."""

import io
import shlex
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import trimesh
from PIL import Image

from face4d.commands import viewer
from face4d.controls import Controls, GivenControls
from face4d.errors import InputError
from face4d.generation.timeline import Expression, parse_timeline, timeline_text
from face4d.runtime.checkpoint import save_checkpoint
from face4d.view.live import LiveMotions, Wish
from face4d.view.live_server import free_port
from face4d.view.live_timeline import Timeline
from tests.conftest import load_script
from tests.finished_demo import LABELS, finished_demo

SCENE = "label,onset,apex,release,offset,strength,region\nhigh-smile,2,10,12,20,0.5,mouth\nmouth-open,9,20,24.5,33,1,\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished_demo(tmp_path_factory.mktemp("live"))


@pytest.fixture
def choice(folder, tmp_path, monkeypatch):
    """What ``test.py --view`` offers in that folder, and its motions."""
    monkeypatch.chdir(folder)
    script = load_script("test.py")
    monkeypatch.setattr(sys, "argv", ["test.py"])

    def make(*words):
        parser = script.build_parser()
        (tmp_path / "faces").mkdir(exist_ok=True)
        found = viewer.Choice(parser, parser.parse_args(["--view", *words]), tmp_path / "faces")
        live = LiveMotions(found.generators.__getitem__, found.load_face)
        found.find_faces()
        return found, live

    return make


def wish(**more):
    return Wish(**{"generator": "steerable", "face": "Demo03", "label": "high-smile", "frames": 20, **more})


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"frames": 31, "seed": 5, "drawn": True},
        {"controls": GivenControls(onset=2, apex=8.5, hold=3, strength=1.4)},
        {"scene": SCENE, "frames": None},
        {"typed": ("--dense", "--flame", "demo/models/flame", "--fps", "30")},
    ],
    ids=["typical", "drawn", "controls", "scene", "typed flags"],
)
def test_a_wish_is_what_its_command_makes(choice, folder, tmp_path, asked):
    found, live = choice("--actors", "demo/actors", *asked.pop("typed", ()))
    wanted = wish(**asked)
    motion = live.motion(wanted)
    _, script, *words = shlex.split(found.command(wanted).replace("\\\n", ""))
    assert script == "test.py"
    if wanted.scene:
        Path("timeline.csv").write_text(SCENE)
    load_script("test.py").main([*words, "--output", str(tmp_path / "made"), "--export=ply", "--quiet", "--no-gif"])
    place = next(path for path in sorted((tmp_path / "made").rglob("*.npy")))
    np.testing.assert_array_equal(np.load(place), motion.landmarks)
    assert len(list(place.parent.glob("*_meshes/*.ply"))) == len(motion.vertices) == len(motion.landmarks)
    assert np.ptp(motion.landmarks, axis=0).max() > 1e-3


def test_motions_are_kept_and_differ_by_every_part_of_the_wish(choice):
    _, live = choice("--actors", "demo/actors")
    first = live.motion(wish())
    assert live.motion(wish()) is first and live.motion(wish()).glb() is first.glb()
    others = {"label": "mouth-open", "face": "Demo01", "frames": 30, "intensity": 0.5, "drawn": True}
    for name, value in others.items():
        other = live.motion(replace(wish(), **{name: value}))
        assert other.landmarks.shape != first.landmarks.shape or np.abs(other.landmarks - first.landmarks).max() > 1e-5
    drawn = [live.motion(wish(drawn=True, seed=seed)).landmarks for seed in (1, 2, 1)]
    assert (drawn[0] == drawn[2]).all() and (drawn[0] != drawn[1]).any()
    for number in range(30):  # the latest only
        live.motion(wish(frames=20 + number))
    assert live.motion(wish()) is not first
    np.testing.assert_array_equal(live.motion(wish()).landmarks, first.landmarks)


def test_files_of_a_motion(choice):
    _, live = choice("--actors", "demo/actors")
    motion = live.motion(wish(frames=12))
    for content in (motion.glb(), motion.still(6), motion.glb(0.5)):
        assert len(trimesh.load(io.BytesIO(content), file_type="glb").geometry) == 2
    still = trimesh.load(io.BytesIO(motion.still(6)), file_type="glb", process=False)
    np.testing.assert_allclose(next(iter(still.geometry.values())).vertices, motion.shown.motions[0][6], atol=1e-6)
    video = motion.mp4(64)
    assert video[4:8] == b"ftyp"


def test_what_is_wrong_is_a_line(choice):
    found, live = choice("--actors", "demo/actors")
    for asked, words in (
        ({"label": "hapy"}, "expected a label"),
        ({"controls": GivenControls(onset=9, apex=3)}, "expected onset"),
        ({"scene": SCENE.replace("20,0.5", "11,0.5"), "frames": None}, "timeline:2: expected onset < apex"),
        ({"scene": SCENE, "frames": 25}, "timeline:3: expected offset"),
        ({"frames": 100_000}, "frames: expected 1 to 1000"),
    ):
        with pytest.raises(InputError, match=words):
            live.motion(wish(**asked))
    with pytest.raises(InputError, match=r"^me\.png: expected a photo"):
        found.add_photo("steerable", "../../me.png", b"no picture")
    assert not list(found._folder.rglob("*.png")), "of what a visitor sends nothing stays"
    assert live.motion(wish()) is not None


def test_names_from_a_visitor_are_not_paths(choice, monkeypatch, folder):
    found, live = choice("--actors", "demo/actors")
    seen = []

    def face_of_photo(args, source):
        seen.append(args.photo)
        return folder / "demo" / "actors" / "Demo02.ply"

    monkeypatch.setattr(viewer, "face_of_photo", face_of_photo)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    names = [found.add_photo("steerable", name, picture.getvalue()) for name in ("/etc/x.PNG", "a\\b\x1b.sh", "x.png")]
    assert len(set(names)) == 3 and all(name.isprintable() for name in names)
    assert [path.parent.parent for path in seen] == [found._folder] * 3
    assert [path.name for path in seen] == ["photo.png", "photo", "photo.png"]
    assert "--photo x.PNG" in found.command(wish(face=names[0]))
    np.testing.assert_array_equal(
        live.motion(wish(face=names[0])).landmarks, live.motion(wish(face="Demo02")).landmarks
    )


def test_faces_and_generators_that_are_offered(choice, folder, tmp_path):
    assert list(choice("--actors", "demo/actors")[0].faces)[:3] == ["Demo01", "Demo02", "Demo03"]
    one = choice("--actor", "demo/actors/Demo02.ply", "--checkpoint", "demo/models/steerable.pt")[0]
    assert list(one.faces) == ["Demo02"] and list(one.generators) == ["steerable"]
    save_checkpoint(folder / "demo" / "models" / "other.pt", "something else", {})
    assert list(choice("--actors", "demo/actors")[0].generators) == ["steerable"]
    with pytest.raises(InputError, match="--view: expected a neutral face"):
        choice()  # the data set has another two people for it
    with pytest.raises(InputError, match="expected <subject>.ply"):
        choice("--actors", str(tmp_path))


def test_a_generator_whose_data_set_has_faces_comes_first(choice, folder, monkeypatch):
    shutil.copy(folder / "demo" / "models" / "steerable.pt", folder / "demo" / "models" / "newer.pt")
    asked = []

    def faces_of(source):
        asked.append(source.owner.stem)
        return {} if source.owner.stem == "newer" else {"Demo02": folder / "demo" / "actors" / "Demo02.ply"}

    monkeypatch.setattr(viewer, "_faces_of", faces_of)
    found, live = choice()
    (folder / "demo" / "models" / "newer.pt").unlink()
    assert asked == ["newer", "steerable"] and list(found.generators) == ["steerable", "newer"]
    assert len(live.motion(wish(face="Demo02")).landmarks) == 21


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--view"], "--view: expected a generator"),
        (["--view", "--strength", "2"], "--strength: --view has no use for it"),
        (["--view", "--label", "Happy", "Rage"], "--label: with --view expected one"),
        (["--view", "--frames", "2000"], "--frames: with --view expected at most 1000"),
        (["--view", "--output", "x"], "--output: --view has no use for it"),
        (["--view", "--checkpoint", "no.pt"], "no.pt: expected"),
        ([], "--checkpoint: expected a value"),
    ],
)
def test_bad_command_lines(run_here, tmp_path, words, told):
    done = run_here("test.py", *words, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_address_that_cannot_be_had(run_here, folder):
    pytest.importorskip("viser")
    done = run_here("test.py", "--view", "--actors", "demo/actors", "--host", "203.0.113.1", cwd=folder)
    assert done.returncode == 2 and "--host 203.0.113.1 --port 8080: expected an address" in done.stderr


def test_a_port_that_is_taken_is_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port < free_port("127.0.0.1", port) < port + 50
    with pytest.raises(InputError, match="--port 65536: expected a free one"):
        free_port("127.0.0.1", 65536)


def test_a_panel_shows_no_more_rows_than_it_can():
    rows = parse_timeline(SCENE.encode(), "scene", LABELS, 100) * 51
    with pytest.raises(InputError, match="timeline: expected at most 100 expressions"):
        Timeline(MagicMock(), lambda: None).show(rows, LABELS)


def test_timelines_as_text_are_read_as_they_were():
    wanted = parse_timeline(SCENE.encode(), "scene", LABELS, 100)
    again = parse_timeline(timeline_text(wanted).encode(), "scene", LABELS, 100)
    assert [(one.label, one.region) for one in again] == [(one.label, one.region) for one in wanted]
    np.testing.assert_array_equal([one.controls.array() for one in again], [one.controls.array() for one in wanted])
    both = Expression("high-smile", Controls.of(np.array([0, 1, 2, 3, -0.25])), ("brows", "eyes"))
    assert timeline_text([both]).splitlines()[1] == "high-smile,0,1,2,3,-0.25,brows+eyes"
