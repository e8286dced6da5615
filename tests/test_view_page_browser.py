"""The page of moving heads as a browser shows it: what moves, what controls change, what arrives, what is asked for."""

import io
import struct
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from face4d.controls import GivenControls
from face4d.demo.detail import finer_head
from face4d.dense.decode import load_decoder
from face4d.generation.sample import load_generator
from face4d.mesh.ply import read_ply
from face4d.mesh.sequence import frame_paths
from tests.conftest import REPOSITORY, Window, changed, load_script
from tests.finished_demo import FRAMES, finished_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder after every step, small, and its page."""
    folder = finished_demo(tmp_path_factory.mktemp("page"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        load_script("figures.py").main(["--dataset", "demo", "--only", "heads", "report", "--quiet"])
    return folder


class Tab(Window):
    """One page of moving heads, standing still at frame 10."""

    def __init__(self, browser, path, **context):
        context = {"viewport": {"width": 1100, "height": 800}, **context}
        super().__init__(browser, path.as_uri(), seconds=10, **context)
        self.run("face4d.ready")
        self.run("face4d.play(false)")
        self.at(10)

    def run(self, words):
        return self.page.evaluate(words)

    def at(self, frame):
        """Show a frame, and let it be drawn."""
        self.run(f"face4d.seek({frame})")
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def pixels(self):
        """(H, W, 3) of the stage."""
        picture = self.page.locator(".stage").screenshot()
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.int16)

    def choose(self, panel, name, text):
        self.page.locator(".panel").nth(panel).locator(f"select.{name}").select_option(label=text)
        self.run("new Promise((done) => setTimeout(done, 150))")
        self.at(self.run("face4d.state.time"))

    def vertices(self, panel, frame):
        """(V, 3) metres as they are drawn."""
        self.at(frame)
        drawn = f"Array.from(face4d.panels[{panel}].head.geometry.attributes.position.array)"
        return np.array(self.run(drawn)).reshape(-1, 3) / 1000

    def landmarks(self, panel):
        """(T, 68, 3) metres."""
        return np.array(self.run(f"Array.from(face4d.panels[{panel}].motion.landmarks)")).reshape(-1, 68, 3) / 1000


@pytest.fixture
def tab(browser, folder):
    tab = Tab(browser, folder / "demo" / "figures" / "report.html")
    yield tab
    tab.context.close()
    assert tab.complaints == [] and tab.requests == [tab.address]


def drawn(frames, neutral):
    """(T, V', 3) metres, as exports draw frames (T, V, 3) of the demo head."""
    return finer_head().move(np.asarray(frames, np.float64), np.asarray(neutral, np.float64))


def test_real_heads_are_the_meshes_and_generated_ones_move_by_the_landmarks(tab, folder):
    tab.choose(0, "label", "mouth-open")
    assert tab.run("face4d.panels.slice(0, 2).map((one) => one.method.name)") == ["real", "steerable"]
    paths = frame_paths(folder / "demo" / "sampling" / "Demo03" / "mouth_open")
    neutral = read_ply(paths[0])[0]
    for frame in (0, 10, 20):
        wanted = drawn([read_ply(paths[frame])[0]], neutral)[0]
        np.testing.assert_allclose(tab.vertices(0, frame), wanted, atol=3e-5)
    generated = np.load(folder / "demo/Generated_Animation/steerable/Demo03_mouth-open/mouth-open_Demo03.npy")
    np.testing.assert_allclose(tab.landmarks(1), generated, atol=6e-6)
    decoder = load_decoder(folder / "demo/models/dense_demo_regional.pt")
    moved = drawn(decoder.decode(generated - generated[0], neutral), neutral)
    np.testing.assert_allclose(tab.vertices(1, 10), moved[10], atol=3e-5)
    by_page = tab.vertices(1, 10) - tab.vertices(1, 0)
    assert np.linalg.norm(by_page, axis=1).max() > 5e-3
    between = 0.5 * (moved[10] + moved[11])
    np.testing.assert_allclose(tab.vertices(1, 10.5), between, atol=3e-5)


def test_play_moves_and_pause_stops(tab):
    before = tab.pixels()
    tab.at(0)
    tab.page.get_by_role("button", name="play").click()
    tab.page.wait_for_function("face4d.state.time > 3")
    tab.page.keyboard.press("Space")
    time = tab.run("face4d.state.time")
    tab.run("new Promise((done) => setTimeout(done, 200))")
    assert not tab.run("face4d.state.playing") and tab.run("face4d.state.time") == time
    tab.at(0)
    assert changed(before, tab.pixels()) > 0.01


def test_label_method_and_switches_change_what_is_drawn(tab):
    tab.choose(0, "label", "mouth-open")
    shown = [tab.pixels()]
    tab.choose(0, "label", "high-smile")
    assert tab.run("face4d.panels[1].choice.label") == tab.run("face4d.panels[0].choice.label")  # together
    shown.append(tab.pixels())
    tab.choose(1, "method", "class mean")
    shown.append(tab.pixels())
    for key in "ewl":
        tab.page.keyboard.press(key)
        tab.at(10)
        shown.append(tab.pixels())
    tab.page.keyboard.press("4")
    tab.at(10)
    shown.append(tab.pixels())
    assert tab.page.locator(".panel").count() == 4
    shares = [changed(a, b) if a.shape == b.shape else 1.0 for a, b in pairwise(shown)]
    assert min(shares) > 0.002, shares


def test_sliders_steer_as_test_py_does(tab, folder):
    tab.choose(1, "method", "steerable, steered")
    tab.choose(1, "label", "high-smile")
    generator = load_generator(folder / "demo/models/steerable.pt")
    neutral = np.load(folder / "demo/Landmark_dataset_flame_aligned_coma/dataset_testing/high-smile_Demo03.npy")[0]
    before, seen = tab.pixels(), []
    for given in ({}, {"strength": 1.7}, {"strength": 0.5, "apex": 5.0, "hold": 8.0}):
        panel = tab.page.locator(".panel").nth(1)
        for name, value in given.items():
            panel.locator(f"input.{name}").fill(str(value))
        tab.run("new Promise((done) => setTimeout(done, 200))")
        start = np.zeros((1, 68, 3))
        label = [generator.label_index("high-smile")]
        wanted = neutral + generator.generate(start, label, controls=GivenControls(**given))[0]
        np.testing.assert_allclose(tab.landmarks(1), wanted, atol=2e-5)
        seen.append(tab.vertices(1, 10))
    head = read_ply(frame_paths(folder / "demo/sampling/Demo03/high_smile")[0])[0]
    decoder = load_decoder(folder / "demo/models/dense_demo_regional.pt")
    np.testing.assert_allclose(seen[-1], drawn(decoder.decode(wanted - neutral, head), head)[10], atol=5e-5)
    assert changed(before, tab.pixels()) > 0.002
    assert np.abs(seen[1] - seen[0]).max() > 1e-3


def test_download_is_a_glb_that_moves_as_the_page(tab, tmp_path):
    tab.choose(0, "label", "mouth-open")
    with tab.page.expect_download() as waiting:
        tab.page.locator(".panel").nth(0).locator(".save").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.name == "real_mouth_open_Demo03.glb"
    content = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    pygltflib = pytest.importorskip("pygltflib")
    document = pygltflib.GLTF2().load(str(path))
    blob = document.binary_blob()

    def array(number):
        accessor = document.accessors[number]
        view = document.bufferViews[accessor.bufferView]
        width = {"SCALAR": 1, "VEC3": 3}[accessor.type]
        kind = {5125: "<u4", 5126: "<f4"}[accessor.componentType]
        return np.frombuffer(blob, kind, accessor.count * width, view.byteOffset).reshape(-1, width)

    primitive = document.meshes[0].primitives[0]
    base = array(primitive.attributes.POSITION)
    targets = np.stack([array(target["POSITION"]) for target in primitive.targets])
    sampler = document.animations[0].samplers[0]
    weights = array(sampler.output).reshape(FRAMES, len(targets))
    assert 1 <= len(targets) < FRAMES and document.meshes[0].extras["maxErrorMm"] < 0.05
    assert np.linalg.norm(array(primitive.attributes.NORMAL), axis=1).round(3).max() == 1
    for frame in (0, 10, 20):
        shown = base + np.tensordot(weights[frame], targets, 1)
        assert np.linalg.norm(shown - tab.vertices(0, frame), axis=1).max() < 6e-5
    np.testing.assert_allclose(array(sampler.input)[:, 0], np.arange(FRAMES) / 25, rtol=1e-5)


def test_teeth_are_held_back_as_in_exports(tab):
    """Of faces with cheeks sucked in, the teeth of which would stick out."""
    finer = finer_head()
    head = finer.head
    sucked = head.mean.copy()
    sucked[np.unique(finer.cheeks), 2] -= 0.012
    wanted = sucked.copy()
    finer.hold_back(wanted)
    assert np.abs(wanted - sucked)[finer.teeth].max() > 5e-3 and np.abs(wanted - sucked)[finer.pocket].max() > 1e-3
    words = """async (vertices) => {
      const array = Float32Array.from(vertices), { held } = face4d.panels[0].motion;
      face4d.holdBack(array, held);
      return Array.from(array);
    }"""
    found = np.array(tab.page.evaluate(words, (1000 * sucked).ravel().tolist())).reshape(-1, 3) / 1000
    off = np.abs(found - wanted).max(axis=1)
    # a point on the edge of a triangle may be in or out
    assert np.mean(off[np.concatenate([finer.teeth, finer.pocket])] < 1e-5) > 0.98
    rest = np.setdiff1d(np.arange(len(sucked)), np.concatenate([finer.teeth, finer.pocket]))
    np.testing.assert_allclose(found[rest], sucked[rest], atol=1e-6)


def test_slow_frames_are_drawn_coarser_until_the_pause_and_time_goes_on(tab):
    width = "document.getElementById('canvas').width"
    whole = tab.run(width)
    # every frame takes 300 ms more, at any speed of the machine
    tab.run("""(() => {
      const { draw } = face4d.stage();
      face4d.stage().draw = function (...given) {
        const end = performance.now() + 300;
        while (performance.now() < end);
        draw.apply(this, given);
      };
    })()""")
    tab.run("face4d.seek(0); document.getElementById('speed').value = '0.1';"
            "document.getElementById('speed').dispatchEvent(new Event('change'))")  # fmt: skip
    words = """(whole) => new Promise((done) => {
      face4d.play(true);
      const begun = performance.now();
      const passed = () => performance.now() - begun;
      const look = () => (document.getElementById("canvas").width < 0.6 * whole || passed() > 90000
        ? done([passed(), face4d.state.time]) : setTimeout(look, 5));
      look();
    })"""
    took = tab.page.evaluate(words, whole)
    assert took[0] < 90_000, "it is drawn as fine as before"
    wanted = took[0] / 1000 * 25 * 0.1  # real time, though frames are few
    assert abs((took[1] - wanted + 10) % 20 - 10) < max(0.25 * wanted, 1)
    tab.run("face4d.play(false)")
    assert tab.run(width) == whole


def test_the_benchmark_measures_the_page(browser, folder):
    report = folder / "demo" / "figures" / "report.html"
    command = [sys.executable, REPOSITORY / "benchmarks" / "page.py", report, "--repeat", "1"]
    short = [*command, "--settle", "0", "--seconds", "0.3"]
    done = subprocess.run([*map(str, short)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "MB" in done.stdout and [line.split("|")[2].strip() for line in done.stdout.splitlines()[-3:]] == [
        "1",
        "2",
        "4",
    ]
    command[2] = folder / "nothing.html"
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no such file" in done.stderr and not done.stdout


def test_camera_turns_and_comes_back(tab):
    before = tab.pixels()
    box = tab.page.locator(".view").nth(0).bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(*middle)
    tab.page.mouse.down()
    tab.page.mouse.move(middle[0] + 90, middle[1] + 20, steps=4)
    tab.page.mouse.up()
    tab.at(10)
    turned = tab.pixels()
    tab.page.keyboard.press("r")
    tab.at(10)
    assert changed(before, turned) > 0.02 and changed(before, tab.pixels()) < 0.01


def test_phone_and_dark(browser, folder):
    path = folder / "demo" / "figures" / "report.html"
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    brightness = []
    for scheme in ("light", "dark"):
        tab = Tab(browser, path, color_scheme=scheme, **phone)
        assert tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.run("face4d.state.layout") == 1
        rows = [tab.page.locator(f"#{name}").bounding_box() for name in ("play", "clock", "loop", "speed")]
        middles = [row["y"] + row["height"] / 2 for row in rows]
        assert max(middles) - min(middles) < 3, rows  # in one line
        assert tab.run("document.getElementById('clock').scrollWidth <= document.getElementById('clock').clientWidth")
        pixels = tab.pixels()
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500  # a shaded head, not one colour
        brightness.append(np.median(pixels))
        tab.context.close()
        assert tab.complaints == []
    assert brightness[1] < 90 < 180 < brightness[0]


def test_landmarks_alone_and_hostile_names(browser, tmp_path):
    from face4d.view.page import describe, heads_top
    from face4d.view.page_heads import find_motions
    from face4d.view.report import write_page
    from tests.test_view_page import landmark_scoring

    evil = "<img src=x onerror=alert(1)>"
    scored, truth = landmark_scoring(tmp_path, (evil, "Rage"), "</script><script>alert(1)</script>")
    top = heads_top(describe(find_motions([(scored, truth)], [evil], [])))
    write_page(tmp_path / "report.html", "title", "", [], top)
    tab = Tab(browser, tmp_path / "report.html")
    assert len(np.unique(tab.pixels().reshape(-1, 3), axis=0)) > 30
    assert tab.page.locator("select.label").nth(0).locator("option").nth(0).text_content() == evil
    assert tab.page.locator(".heads img").count() == 0
    tab.context.close()
    assert tab.complaints == [] and tab.requests == [tab.address]
