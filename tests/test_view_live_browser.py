"""The live viewer as a browser shows it: what is drawn, what arrives, and that visitors do not disturb each other."""

import io
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from face4d.generation.sample import load_generator
from face4d.landmarks import extract, load_flame_embedding
from face4d.mesh.ply import read_ply
from tests.conftest import REPOSITORY, Window, changed
from tests.finished_demo import finished_demo

pytest.importorskip("viser", reason="no viser (pip install -e '.[view]')")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished_demo(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module")
def address(folder):
    """A running viewer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = ["--view", "--actors", "demo/actors", "--label", "mouth-open", "--port", port, "--size", "64"]
    command = [sys.executable, str(REPOSITORY / "test.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    said = running.stdout.readline()
    found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n", said)
    assert found, said
    yield found[1]
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 0 and running.stdout.read() == ""


class Visitor(Window):
    """A window on the viewer."""

    def __init__(self, browser, address, **context):
        context = {"viewport": {"width": 900, "height": 620}, **context}
        super().__init__(browser, address, seconds=60, heard=["error"], **context)
        self.wait("mouth-open: 20 frames")

    def wait(self, words):
        self.page.get_by_text(words).first.wait_for()

    @property
    def status(self):
        return self.page.locator("strong").first.locator("xpath=..").inner_text()

    def choose(self, now, new):
        self.page.locator(f'input[value="{now}"]').first.click()
        self.page.get_by_role("option", name=new, exact=True).click()

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def pixels(self):
        """(H, W, 3) of the part without panel and notices."""
        return self.picture(clip={"x": 0, "y": 200, "width": 550, "height": 400})

    def until_drawn_otherwise(self, before, seconds=40):
        for _ in range(2 * seconds):
            if changed(before, self.pixels()) > 0.002:
                return
            self.page.wait_for_timeout(500)
        raise AssertionError("what is drawn did not change")

    def settled(self):
        """The picture once it stays as it is."""
        before = self.pixels()
        for _ in range(60):
            self.page.wait_for_timeout(700)
            after = self.pixels()
            if changed(before, after) == 0 and (after < 200).any():
                return after
            before = after
        raise AssertionError("what is drawn does not come to rest")

    def download(self, name):
        with self.page.expect_download() as waiting:
            self.press(name)
        return waiting.value.suggested_filename, waiting.value.path().read_bytes()

    def send(self, name, file):
        with self.page.expect_file_chooser() as waiting:
            self.press(name)
        waiting.value.set_files([file])


@pytest.fixture
def visit(browser, address):
    visitors = []

    def come(**context):
        visitors.append(Visitor(browser, address, **context))
        return visitors[-1]

    yield come
    for one in visitors:
        one.context.close()
        assert one.complaints == [] and all(url.startswith((address, "blob:", "data:")) for url in one.requests)


def test_it_moves_at_once_and_stops(visit):
    one = visit()
    first = one.pixels()
    one.until_drawn_otherwise(first)
    one.until_drawn_otherwise(one.pixels())
    one.press("Pause")
    still = one.settled()
    assert (still < 200).any(axis=2).mean() > 0.1  # a head is there
    one.press("Play")
    one.until_drawn_otherwise(still)


def test_what_is_chosen_is_what_is_drawn_and_downloaded(visit, folder):
    one = visit()
    one.press("Pause")
    shown = one.settled()
    one.choose("mouth-open", "high-smile")
    one.wait("high-smile: 20 frames")
    one.until_drawn_otherwise(shown)
    name, content = one.download("npy")
    generator = load_generator(folder / "demo/models/steerable.pt")
    vertices = read_ply(folder / "demo/actors/Demo01.ply")[0]
    neutral = extract(load_flame_embedding(folder / "demo/models/flame"), vertices)
    label = [generator.label_index("high-smile")]
    wanted = neutral + generator.generate(np.zeros((1, 68, 3), np.float32), label)[0]
    assert name == "high-smile.npy"
    np.testing.assert_allclose(np.load(io.BytesIO(content)), wanted, atol=1e-6)
    name, content = one.download("GLB")
    assert name == "high-smile.glb"
    assert len(trimesh.load(io.BytesIO(content), file_type="glb").geometry) == 2
    name, content = one.download("MP4")
    assert name == "high-smile.mp4" and content[4:8] == b"ftyp"


def test_times_follow_the_number_of_frames(visit):
    one = visit()
    one.page.get_by_label("My timing").check()
    one.page.get_by_label("Frames").first.fill("12")
    one.wait("mouth-open: 12 frames")
    one.page.get_by_label("Frames").first.fill("60")
    one.wait("mouth-open: 60 frames")
    assert "--offset 57" in one.page.locator("pre").inner_text()


def test_two_visitors_do_not_disturb_each_other(visit):
    one, other = visit(), visit()
    for visitor in (one, other):
        visitor.press("Pause")
    shown = one.settled()
    other.choose("mouth-open", "high-smile")
    other.choose("Demo01", "Demo02")
    other.wait("high-smile: 20 frames")
    other.settled()
    assert one.status.startswith("mouth-open: 20 frames") and changed(shown, one.pixels()) == 0
    assert one.page.locator('input[value="Demo01"]').count() > 0


def test_a_timeline_is_edited_read_and_downloaded(visit):
    one = visit()
    one.choose("one expression", "timeline")
    one.wait("scene: 50 frames")
    one.press("Add an expression")
    one.wait("scene: 80 frames")
    _, content = one.download("CSV")
    text = content.decode()
    assert text.splitlines()[1:] == ["mouth-open,0,20,30,50,1,", "mouth-open,30,50,60,80,1,"]
    scene = text.splitlines()[0] + "\nhigh-smile,0.45,9.15,20,33,0.5,mouth\n"
    one.send("Read a CSV", {"name": "mine.csv", "mimeType": "text/csv", "buffer": scene.encode()})
    one.wait("scene: 33 frames")
    assert one.download("CSV")[1].decode() == scene
    one.send("Read a CSV", {"name": "bad.csv", "mimeType": "text/csv", "buffer": b"label,onset\n"})
    one.wait("bad.csv:1: expected the columns")
    one.send("From a photo", {"name": "<b>*me.png", "mimeType": "image/png", "buffer": b"no picture"})
    one.wait("<b>*me.png: expected a photo")
    one.wait("scene: 33 frames")  # and no longer "Fitting"
    assert one.download("CSV")[1].decode() == scene  # nothing is lost


def test_on_a_phone_the_face_is_above_the_panel(visit):
    one = visit(viewport={"width": 390, "height": 760}, is_mobile=True, has_touch=True)
    one.page.get_by_role("button", name="Pause").click()
    one.page.wait_for_timeout(2500)
    dark = (one.picture(clip={"x": 0, "y": 150, "width": 390, "height": 140}) < 200).any(axis=2)
    assert dark.mean() > 0.1
