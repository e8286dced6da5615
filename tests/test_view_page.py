"""The page of moving heads without a browser: numbers survive packing, surfaces their components, names no script."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.evaluation.results import Scored
from face4d.view import page, page_codec
from face4d.view.page import describe, heads_top, three_js
from face4d.view.page_codec import encode_surfaces, pack, packed_bytes, unpack
from face4d.view.page_heads import MEAN, REAL, find_motions
from tests.conftest import toy_sequence, write_landmarks


@pytest.mark.parametrize("step", [1e-3, 1.0])
@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("largest", [0.02, 30.0, 4e4])
def test_packed_numbers_are_read_back_within_half_a_step(step, delta, largest):
    array = np.random.default_rng(0).uniform(-largest, largest, (7, 5, 3))
    found = unpack(json.loads(json.dumps(pack(array, step, delta=delta))))
    assert found.shape == array.shape
    np.testing.assert_allclose(found, array, atol=step / 2 + 4e-3 * (largest > 100), rtol=0)


def test_packed_floats_keep_sixteen_bits():
    array = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32) * 10.0 ** np.arange(-4, 8).reshape(3, 4)
    np.testing.assert_allclose(unpack(pack(array)), array, rtol=1.6e-5)
    with pytest.raises(ValueError, match="steps"):
        pack(np.array([1e12]), 1.0)


def waves(count, frames=20, vertices=300):
    """Smooth motions (T, V, 3) of a few millimetres, of rank 6, and white noise of a micrometre over them."""
    random = np.random.default_rng(3)
    shapes = random.normal(size=(6, vertices, 3)) * 3e-3
    time = np.linspace(0, np.pi, frames)
    weights = np.sin(time[:, None] * np.arange(1, 7))[None] * random.normal(size=(count, 1, 6)) / np.arange(1, 7)
    noise = random.normal(size=(count, frames, vertices, 3)) * 1e-6
    return np.einsum("ntk,kvc->ntvc", weights, shapes) + noise


def test_surfaces_are_as_near_as_is_said():
    motions = waves(5)
    encoded = encode_surfaces([lambda motion=motion: motion for motion in motions], 10**6)
    assert encoded.max_error_mm < 0.02 and len(encoded.components) == 8  # of the ladder, not below the rank
    flat = 1000 * motions[0].reshape(20, -1)
    shown = (encoded.codes[0] * encoded.steps) @ encoded.components.reshape(8, -1)
    worst = np.linalg.norm((shown - flat).reshape(20, -1, 3), axis=2).max()
    assert 0 < worst <= encoded.max_error_mm + 1e-4
    again = encoded.project(motions[0]) @ encoded.components.reshape(8, -1)
    assert np.linalg.norm((again - flat).reshape(20, -1, 3), axis=2).max() < 0.02


def test_weak_directions_survive_strong_ones():
    """Many rows, metres of motion in one direction and fractions of a millimetre in others."""
    random = np.random.default_rng(5)
    strong = random.normal(size=(1, 1, 2000, 3)) * 0.05
    weak = random.normal(size=(12, 1, 2000, 3)) * 1e-4
    weights = random.normal(size=(6, 400, 13))
    motions = [np.tensordot(one, np.concatenate([strong, weak])[:, 0], 1) for one in weights]
    encoded = encode_surfaces([lambda motion=motion: motion for motion in motions], 10**8)
    assert encoded.max_error_mm < 0.02 and len(encoded.components) <= 16


def test_little_room_costs_accuracy_and_it_is_said():
    motions = waves(4, vertices=900)
    surfaces = [lambda motion=motion: motion for motion in motions]
    whole = encode_surfaces(surfaces, 10**7)
    tight = encode_surfaces(surfaces, len(whole.packed["data"]) // 2)
    assert len(tight.packed["data"]) < 0.7 * len(whole.packed["data"]) and tight.max_error_mm > 2 * whole.max_error_mm


def test_many_surfaces_need_not_fit_into_memory(monkeypatch):
    monkeypatch.setattr(page_codec, "_CACHE", 0)
    monkeypatch.setattr(page_codec, "_ROWS", 32)  # the sketch is brought back to its components several times
    asked = []
    motions = waves(6)
    encoded = encode_surfaces([lambda n=n: (asked.append(n), motions[n])[1] for n in range(6)], 10**6)
    assert encoded.max_error_mm < 0.02 and len(asked) >= 18


def landmark_scoring(folder: Path, labels=("Happy", "Rage"), name="mine") -> tuple[Scored, dict]:
    """A scoring of landmarks alone, and its ground truth."""
    truth, generated = {}, {}
    write_landmarks(folder / "landmarks", ("Happy", "Rage"), ("CH01", "CH03"), 9)
    for number, label in enumerate(labels):
        key = (label, "CH01")
        generated[key], truth[key] = folder / f"{number}.npy", folder / f"real{number}.npy"
        np.save(generated[key], toy_sequence(number, 0, 9))
        np.save(truth[key], toy_sequence(number, 0, 9))
    return Scored(name, folder, {"labels": list(labels), "scores": []}, generated), truth


def test_landmarks_alone_are_shown_without_surface(tmp_path):
    (found,) = find_motions([landmark_scoring(tmp_path)], [None], [])
    assert [(one.method, one.label, one.surface) for one in found.motions] == [
        (REAL, "Happy", None), (REAL, "Rage", None), ("mine", "Happy", None), ("mine", "Rage", None),
    ]  # fmt: skip
    described = describe([found])["sets"][0]
    assert "surface" not in described and described["labels"] == ["Happy", "Rage"] and described["frames"] == 9
    landmarks = unpack(described["methods"][1]["landmarks"])
    np.testing.assert_allclose(landmarks[9:], toy_sequence(1, 0, 9), atol=6e-6)
    assert packed_bytes(described) < 60_000


def test_class_mean_and_its_data_are_found_by_the_data_sets_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_landmarks(tmp_path / "Landmark_dataset_flame_aligned", ("Happy", "Rage"), ("CH01", "CH03", "CH04"), 9)
    scored, truth = landmark_scoring(tmp_path)
    scored = Scored(
        "mine", tmp_path, {**scored.content, "landmarks": "Landmark_dataset_flame_aligned"}, scored.generated
    )
    (found,) = find_motions([(scored, truth)], ["florence"], [])
    means = [one for one in found.motions if one.method == MEAN]
    assert found.name == "florence" and [one.label for one in means] == ["Happy", "Rage"]
    moved = [toy_sequence(0, subject, 9) - toy_sequence(0, subject, 9)[0] for subject in (1, 2)]
    np.testing.assert_allclose(means[0].landmarks - means[0].landmarks[0], np.mean(moved, axis=0), atol=1e-6)
    assert "python Sparse2Dense/main.py --dataset florence" in found.notes[0]


def test_older_scorings_beyond_the_limit_are_named(tmp_path, monkeypatch):
    from face4d.view import page_heads

    monkeypatch.setattr(page_heads, "MOST_MOTIONS", 6)
    first, truth = landmark_scoring(tmp_path)
    second = Scored("older", tmp_path, first.content, first.generated)
    (found,) = find_motions([(first, truth), (second, truth)], [None, None], [])
    assert {one.method for one in found.motions} == {REAL, "mine"} and "older" in found.notes[0]


def test_names_end_no_script(tmp_path):
    evil = "</script><script>alert(1)</script>"
    scored, truth = landmark_scoring(tmp_path, (evil, "<img src=x onerror=alert(1)>"), "<b>&")
    described = describe(find_motions([(scored, truth)], [evil], []))
    text = heads_top(described).scripts
    assert text.count("<script") == text.count("</script>") == 3 and "<img" not in text
    data = json.loads(re.search(r'id="heads-data">(.*?)</script>', text, re.DOTALL)[1])
    assert evil in data["sets"][0]["labels"] and data["sets"][0]["methods"][1]["name"] == "<b>&"
    for name in page._SCRIPTS:
        assert not re.search(r"innerHTML|outerHTML|document\.write|insertAdjacent|eval\(", page._web(name)), name


def test_three_js_is_taken_with_its_licence_and_missed_in_words(monkeypatch, tmp_path):
    text = three_js()
    assert "Three.js Authors" in text[:200] and "WebGLRenderer" in text and "</script" not in text
    monkeypatch.setattr(page, "_VIEWER", Path("nowhere.zip"))
    with pytest.raises(InputError, match="pip install trimesh"):
        three_js()
