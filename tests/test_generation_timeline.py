"""Timelines: what a file may say, and the motion of its scene: times, sums, regions, joins."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.constants import COMA_LABELS, LANDMARK_GROUPS
from face4d.controls import Controls
from face4d.datasets.landmark_set import load_folder, load_split, stack, tensors
from face4d.errors import InputError
from face4d.generation.controlled import ControlledGenerator
from face4d.generation.flow.config import PRESETS
from face4d.generation.flow.networks import MotionFlow
from face4d.generation.lstm import CoefficientGenerator
from face4d.generation.sample import Generator
from face4d.generation.timeline import (
    MOST_ROWS,
    Expression,
    crowding,
    envelope,
    on_times,
    play,
    read_timeline,
    region_weights,
    scene_name,
    trained_controls,
)
from face4d.mesh.plausibility import FACE_SIZE, MEAN_FACE
from tests.conftest import REPOSITORY
from tests.test_controls import motion
from tests.test_generation_controlled import fitted

HEADER = "label,onset,apex,release,offset,strength,region\n"
LABELS = ("Happy", "mouth-open")
NEUTRAL = FACE_SIZE * MEAN_FACE


def read(tmp_path: Path, text: str, last: int = 300) -> tuple[Expression, ...]:
    (tmp_path / "scene.csv").write_bytes(text.encode())
    return read_timeline(tmp_path / "scene.csv", LABELS, last)


def row(label: str, *controls: float, strength: float = 1, region: tuple[str, ...] = ()) -> Expression:
    return Expression(label, Controls.of(np.array([*controls, strength])), region)


@pytest.fixture(scope="module")
def generator() -> Generator:
    network = fitted()[0]
    return Generator(Path("models/c.pt"), network.eval(), LABELS, 21, 68, {}, {})


def test_rows_comments_and_what_may_be_left_out(tmp_path):
    text = '\ufeff# a "scene\nRegion, label ,offset,onset,apex,release\r\n\n  # more\n,,,,,\n'
    text += 'mouth + jaw+mouth,mouth_open,40.5,2,10,10\n"",Happy,90,40,60,70,\n'
    first, second = read(tmp_path, text)
    assert (first.label, first.region, first.controls.array().tolist()) == (
        "mouth-open", ("mouth", "jaw"), [2, 10, 10, 40.5, 1],
    )  # fmt: skip
    assert (second.label, second.region, second.controls.array().tolist()) == ("Happy", (), [40, 60, 70, 90, 1])
    (short,) = read(tmp_path, HEADER + "Happy,0,1,1,2")
    assert short.controls.array().tolist() == [0, 1, 1, 2, 1]


def test_the_example_of_the_docs():
    expressions = read_timeline(REPOSITORY / "docs" / "example_timeline.csv", COMA_LABELS, 300)
    assert len(expressions) == 10 and {region for e in expressions for region in e.region} >= {"mouth", "brows"}


SPAN = "from 0 to 300, frames of the scene (--frames)"
ORDER = "expected onset < apex <= release < offset, a frame or more"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "scene.csv:1: expected the columns label,onset,apex,release,offset,strength,region, found an empty file"),
        ("Happy,0,10,20,30\n", "scene.csv:1: expected the columns"),
        ("label;onset;apex\n", f"scene.csv:1: expected commas between the columns {HEADER.strip()}, found semicolons"),
        (HEADER.replace(",", "\t"), "release,offset,strength,region, found tabs"),
        ("label,onset,apex,release,offset,strenght\n", "'strenght' one more; the nearest is strength"),
        ("label,onset,apex,release,offset,onset\n", "'onset' twice"),
        (HEADER, "scene.csv: expected expressions, found none below the header"),
        (HEADER + "\nHapy,0,10,20,30\n", "scene.csv:3: expected a label of the generator (Happy, mouth-open), found H"),
        (HEADER + ",0,10,20,30\n", "(Happy, mouth-open), found none$"),
        (HEADER + "Happy,0,10,20\n", f"scene.csv:2: expected offset: a number {SPAN}, found none"),
        (HEADER + "Happy,0,10,20,30,1,,x\n", "scene.csv:2: expected 7 values"),
        (HEADER + "Happy,0,ten,20,30\n", f"scene.csv:2: expected apex: a number {SPAN}, found ten"),
        (HEADER + "Happy,0,nan,20,30\n", "found nan"),
        (HEADER + "Happy,0,,20,30\n", "found none"),
        (HEADER + "Happy,-1,10,20,30\n", f"expected onset: a number {SPAN}, found -1"),
        (HEADER + "Happy,0,10,20,301\n", f"expected offset: a number {SPAN}, found 301"),
        (HEADER + "Happy,10,10.5,20,30\n", "found onset 10, apex 10.5, release 20, offset 30"),
        (HEADER + "Happy,0,20,10,30\n", ORDER),
        (HEADER + "Happy,0,10,30,30\n", ORDER),
        (HEADER + "Happy,0,10,20,30,11\n", "expected strength: a number from -10 to 10, found 11"),
        (HEADER + "Happy,0,10,20,30,1,mout\n", "empty for the whole face), found mout; the nearest is mouth"),
        (HEADER + "Happy,0,10,20,30,1,mouth+\n", "found none beside a +$"),
        (HEADER + "Happy,0,10,20,30,1,+\n", "found none beside a +$"),
        (HEADER + "Happy,0,10,20,30,1,++jaw\n", "found none beside a +$"),
        (HEADER + "Happy,0,1_0,20,30\n", f"expected apex: a number {SPAN}, found 1_0"),
        (HEADER + "Happy,0,\uff11\uff10,20,30\n", "expected apex: a number"),
        (HEADER + 'Happy,0,10,20,30,1,"mouth\n', "scene.csv:2: expected values separated by commas"),
        (HEADER + "Happy,0,10,20,30\n" * (MOST_ROWS + 1), f"scene.csv:{MOST_ROWS + 2}: expected at most {MOST_ROWS}"),
        ("#" * (1 << 20) + "\n", "of at most 1 MB"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert words in f"{error.value}$" and "\n" not in str(error.value)


def test_what_is_no_timeline_at_all(tmp_path):
    (tmp_path / "scene.csv").write_bytes("label,onset".encode("utf-16"))
    for path, found in ((tmp_path / "scene.csv", "no UTF-8 text"), (tmp_path, "a folder"), (tmp_path / "x", "no such")):
        with pytest.raises(InputError, match=found):
            read_timeline(path, LABELS, 300)
    assert scene_name("a/my_scene.csv") == "my-scene"
    with pytest.raises(InputError, match="a file name of letters"):
        scene_name("a/sc\x1bne.csv")


def test_one_expression_is_what_the_generator_makes(generator):
    own = generator.generate(np.zeros((1, 68, 3)), [1], controls=Controls.of(np.array([[0, 8, 11, 20, 0.7]])))[0]
    found = play(generator, [row("mouth-open", 0, 8, 11, 20, strength=0.7)], NEUTRAL)
    assert found.shape == (21, 68, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[:12], own[:12], atol=1e-8)
    np.testing.assert_allclose(found, own, atol=1.1 * np.abs(own[-1]).max())  # what is left at the end fades
    later = play(generator, [row("mouth-open", 30, 38, 41, 50, strength=0.7)], NEUTRAL, 60)
    np.testing.assert_allclose(later[30:51], found, atol=1e-8)
    assert not later[:31].any() and not later[50:].any()


def test_an_expression_of_any_length_has_the_flanks_asked_for(generator):
    apex = play(generator, [row("Happy", 0, 8, 11, 20)], NEUTRAL)[8]
    for times in ((0, 40, 40, 80), (5.5, 8, 190, 200), (10, 150, 280, 290), (3, 5, 6, 8)):
        controls = np.array([*times, 1.0])
        found = play(generator, [Expression("Happy", Controls.of(controls))], NEUTRAL, 300)
        wanted = motion(apex, 301, *controls)
        assert np.abs(found - wanted).max() < 0.02 * np.abs(apex).max()


def test_flanks_stay_smooth_however_long_they_become():
    direction = np.random.default_rng(1).normal(0, 4e-3, (68, 3))
    native, wanted = np.array([0, 8, 12, 20]), np.array([0.0, 100, 250, 300])
    found = on_times(motion(direction, 21, *native), native, wanted, np.arange(301))
    np.testing.assert_allclose(found, motion(direction, 301, *wanted), atol=1e-9)


def test_phases_keep_their_proportions_and_flanks_a_sixth():
    asked = np.array([[10, 40, 70, 130, 0.5], [0, 5, 395, 400, 1], [0, 2, 2, 300, 1], [0, 1, 2, 3, 1]])
    assert trained_controls(asked, 60).tolist() == [
        [0, 15, 30, 60, 0.5], [0, 10, 50, 60, 1], [0, 10, 10, 60, 1], [0, 20, 40, 60, 1],
    ]  # fmt: skip


def test_an_expression_becomes_the_next_without_the_neutral_between(generator):
    first, second = row("Happy", 0, 20, 30, 50), row("mouth-open", 30, 50, 60, 80)
    found = play(generator, [first, second], NEUTRAL)
    alone = [play(generator, [one], NEUTRAL, 80) for one in (first, second)]
    np.testing.assert_allclose(found, alone[0] + alone[1], atol=1e-8)  # equal flanks sum to one
    np.testing.assert_allclose(found[40], (alone[0][25] + alone[1][55]) / 2, atol=5e-6)
    again = play(generator, [first, row("Happy", 30, 50, 60, 80)], NEUTRAL)
    np.testing.assert_allclose(again[20:61], np.broadcast_to(again[25], (41, 68, 3)), atol=2e-5)  # as if held


def test_expressions_at_once_share_the_face(generator):
    one, other = row("Happy", 0, 20, 60, 80), row("mouth-open", 10, 30, 50, 70)
    alone = [play(generator, [expression], NEUTRAL, 80) for expression in (one, other)]
    both = play(generator, [one, other], NEUTRAL)
    np.testing.assert_allclose(both[30:51], (alone[0] + alone[1])[30:51] / 2, atol=1e-8)
    many = play(generator, [one] * 7, NEUTRAL)
    size = np.linalg.norm(alone[0], axis=2).max()
    assert np.linalg.norm(many, axis=2).max() < 1.13 * size
    np.testing.assert_allclose(many[20:61], alone[0][20:61], atol=1e-8)
    weak = [row(e.label, *e.controls.array()[:4], strength=0.5) for e in (one, other)]
    np.testing.assert_allclose(play(generator, weak, NEUTRAL), (alone[0] + alone[1]) / 2, atol=1e-6)  # room for both
    strong = row("Happy", 0, 20, 60, 80, strength=2)
    np.testing.assert_allclose(play(generator, [strong], NEUTRAL), 2 * alone[0], atol=1e-4)


def test_crowding_has_no_kink():
    asked = np.linspace(0, 4, 4001)
    found = crowding(asked)
    np.testing.assert_array_equal(found[asked <= 1], 1)
    np.testing.assert_allclose(found[asked >= 2], asked[asked >= 2])
    assert np.abs(np.diff(found, 2)).max() < 6e-6 and 1.12 < (asked / found).max() < 1.13


def test_a_region_moves_and_what_is_far_stays(generator):
    whole = play(generator, [row("Happy", 0, 20, 30, 50)], NEUTRAL)
    brows = play(generator, [row("Happy", 0, 20, 30, 50, region=("brows",))], NEUTRAL)
    group = LANDMARK_GROUPS["brows"]
    np.testing.assert_allclose(brows[:, group], whole[:, group], atol=1e-9)
    size = np.linalg.norm(whole, axis=2).max(axis=0)
    moved = np.linalg.norm(brows, axis=2).max(axis=0)
    assert (moved <= size + 1e-9).all() and (
        moved[LANDMARK_GROUPS["mouth"]] < 0.06 * size[LANDMARK_GROUPS["mouth"]]
    ).all()
    both = play(generator, [row("Happy", 0, 20, 30, 50, region=("mouth", "jaw"))], NEUTRAL)
    for name in ("mouth", "jaw"):
        np.testing.assert_allclose(both[:, LANDMARK_GROUPS[name]], whole[:, LANDMARK_GROUPS[name]], atol=1e-9)


def test_a_region_does_not_tear_the_face():
    """A mouth that opens by 30 mm takes the chin along; what is left of the strain is what the docstring says."""
    down = np.zeros((2, 68, 3))
    for size, chin, brows in ((0.03, (0.85, 1), (0.1, 0.5)), (0.002, (0, 0.05), (0, 0.01))):
        down[1, :, 1] = -size
        weights = region_weights(NEUTRAL, ("mouth",), down)
        assert (weights[LANDMARK_GROUPS["mouth"]] == 1).all() and chin[0] <= weights[8] <= chin[1]
        assert brows[0] <= weights[LANDMARK_GROUPS["brows"]].max() <= brows[1]
        distances = np.linalg.norm(NEUTRAL[:, None] - NEUTRAL[None, LANDMARK_GROUPS["mouth"]], axis=2).min(axis=1)
        assert ((1 - weights) * size <= 0.27 * distances + 1e-9).all()
    np.testing.assert_array_equal(region_weights(NEUTRAL, (), down), 1)


def roughness(sequence: np.ndarray, order: int) -> np.ndarray:
    """Mean magnitude of the differences of an order, per frame: (T - order,) of sequences (T, L, 3)."""
    return np.linalg.norm(np.diff(sequence.astype(np.float64), order, axis=0), axis=2).mean(axis=1)


def test_joins_are_no_rougher_than_the_expressions_and_real_motion(shared_data):
    folder = shared_data / "landmarks_florence"
    labels = ("Happy", "Rage", "Sad2")
    real, indices = stack([s for s in load_folder(folder / "dataset_training") if s.label in labels], labels)
    network = ControlledGenerator(3, 8, 8)
    network.fit(torch.tensor(real), torch.tensor(indices), seed=1)
    generator = Generator(Path("c.pt"), network.eval(), labels, 61, 68, {}, {})
    neutral = np.load(folder / "dataset_testing" / "Happy_CH01.npy")[0]
    scene = [row("Happy", 5, 35, 50, 80), row("Rage", 50, 80, 95, 125), row("Sad2", 110, 140, 160, 190)]
    scene.append(row("Happy", 150, 180, 200, 230))
    together = play(generator, scene, neutral)
    alone = [play(generator, [expression], neutral, 230) for expression in scene]
    for order in (2, 3):  # acceleration, jerk
        whole = roughness(together, order)
        single = np.max([roughness(one, order) for one in alone], axis=0)
        for before, after in pairwise(scene):
            window = slice(int(after.controls.onset) - 3, int(before.controls.offset) + 3)
            assert whole[window].max() < 1.05 * single.max()
            assert whole[window].mean() < 1.5 * single[window].mean()
    assert roughness(together, 2).max() < np.max([roughness(one, 2) for one in real])


def test_a_generator_without_controls_is_refused():
    plain = Generator(Path("models/a.pt"), CoefficientGenerator(2, 4, 4), LABELS, 21, 68, {}, {})
    with pytest.raises(InputError, match="expected a generator that follows controls"):
        play(plain, [row("Happy", 0, 8, 11, 20)], NEUTRAL)


def test_a_flow_plays_a_scene_in_many_ways(landmark_folder):
    split = load_split(landmark_folder, test_subjects=("CH01", "CH02"))
    data, indices = tensors(split.train, split.labels, torch.device("cpu"))
    torch.manual_seed(1)
    small = {"hidden_size": 16, "components": 6, "blocks": 2, "sampling_steps": 2}
    network = MotionFlow(PRESETS["default"].with_settings(small), len(split.labels))
    network.fit(data, indices)
    flow = Generator(Path("models/f.pt"), network.eval(), split.labels, 13, 68, {}, {})
    scene = [row(split.labels[0], 2, 8, 12, 20), row(split.labels[1], 12, 20, 25, 30)]
    first = play(flow, scene, NEUTRAL, seed=1, sample=0)
    assert first.shape == (31, 68, 3) and not first[:3].any() and not first[30].any() and first[15].any()
    np.testing.assert_array_equal(play(flow, scene, NEUTRAL, seed=1, sample=0), first)
    assert np.abs(play(flow, scene, NEUTRAL, seed=1, sample=1) - first).max() > 1e-5
    torch.nn.init.normal_(network.averaged.last.weight, std=0.1)  # as if learnt
    learnt, guided = (play(flow, scene, NEUTRAL, seed=1, sample=0, guidance=amount) for amount in (1, 3))
    assert np.abs(guided - learnt).max() > 1e-5


def test_an_envelope_is_one_in_the_hold():
    np.testing.assert_allclose(envelope(np.array([2.0, 4, 6, 10]), np.arange(12)), [
        0, 0, 0, 0.5, 1, 1, 1, 0.84375, 0.5, 0.15625, 0, 0
    ])  # fmt: skip
