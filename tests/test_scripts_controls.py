"""A generator that follows controls, from main.py to test.py as a user runs them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from face4d.controls import find_controls
from face4d.datasets.landmark_set import load_split
from face4d.generation.config import PRESETS
from face4d.generation.sample import load_generator
from face4d.runtime.run_folder import Run
from tests.conftest import load_script, toy_sequence, write_landmarks

LABELS = ("Happy", "Rage", "Scream")
CONTROLS = PRESETS["default"].with_settings({"hidden_size": 8, "epochs": 3, "components": 6, "controls": True})


def trained(folder, config=CONTROLS, run="x", **how):
    landmarks = folder / "landmarks"
    if not landmarks.exists():
        write_landmarks(landmarks, LABELS, ("CH01", "CH03", "CH04"), 13)
        np.save(folder / "me.npy", toy_sequence(0, 8, 3)[0])
    source = {"dataset": "florence", "landmarks": "landmarks", "test_subjects": ["CH01"]}
    split = replace(load_split(landmarks, test_subjects=("CH01",)), source=source)
    return load_script("main.py").train(split, config, Run(run, folder / "models", folder / "runs", quiet=True, **how))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlled")
    trained(folder)
    return folder


def generate(folder, output, *words):
    base = ["--checkpoint", folder / "models/x.pt", "--no-gif", "--quiet", "--output", output]
    load_script("test.py").main([*map(str, base), *map(str, words)])


def test_training_stopped_and_continued_is_the_same(tmp_path, monkeypatch):
    trained(tmp_path, CONTROLS.with_settings({"epochs": 6}), run="whole")
    from face4d.runtime.session import Session

    epochs = Session.epochs

    def two(self):
        for epoch in epochs(self):
            if epoch == 3:
                raise KeyboardInterrupt
            yield epoch

    monkeypatch.setattr(Session, "epochs", two)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, CONTROLS.with_settings({"epochs": 6}), run="part", checkpoint_seconds=0)
    monkeypatch.setattr(Session, "epochs", epochs)
    assert (tmp_path / "models/part.last.pt").exists()
    trained(tmp_path, CONTROLS.with_settings({"epochs": 6}), run="part", resume=True)
    whole, part = (load_generator(tmp_path / "models" / f"{run}.pt").network.state_dict() for run in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_an_own_face_moves_as_asked(folder, tmp_path):
    words = ("--actor", folder / "me.npy", "--label", "Happy", "--frames", 40)
    generate(folder, tmp_path / "a", *words, "--apex", 20, "--hold", 10, "--strength", 0.7)
    generate(folder, tmp_path / "b", *words, "--apex", 8, "--strength", 1.4)
    moved = [np.load(tmp_path / name / "me_Happy/Happy_me.npy") - np.load(folder / "me.npy") for name in "ab"]
    size = [np.linalg.norm(motion.reshape(41, -1), axis=1) for motion in moved]
    assert size[1].max() / size[0].max() == pytest.approx(2, rel=0.15)
    first, second = (find_controls(motion[None], motion[None].max(axis=1)) for motion in moved)
    assert second.apex[0] < first.apex[0] - 6
    made = json.loads((tmp_path / "a/me_Happy/made.json").read_text())
    assert made["settings"]["controls"] == {"onset": None, "apex": 20, "hold": 10, "offset": None, "strength": 0.7}


def test_samples_differ_and_one_answer_is_the_mean(folder, tmp_path):
    generate(folder, tmp_path / "many", "--samples", 3, "--actor", folder / "me.npy", "--label", "Happy")
    generate(folder, tmp_path / "one", "--actor", folder / "me.npy", "--label", "Happy")
    files = sorted(tmp_path.rglob("*.npy"))
    assert len(files) == 4 and len({file.read_bytes() for file in files}) == 4


def test_the_test_set_with_the_controls_of_the_real_sequences(folder, tmp_path):
    words = ("--landmarks", folder / "landmarks", "--test-subjects", "CH01")
    generate(folder, tmp_path / "mean", *words)
    generate(folder, tmp_path / "real", *words, "--real-controls")
    real = load_split(folder / "landmarks", test_subjects=("CH01",)).test
    errors = {}
    for name in ("mean", "real"):
        found = [np.load(tmp_path / name / f"CH01_{s.label}/{s.label}_CH01.npy") for s in real]
        errors[name] = np.mean([np.abs(f - s.landmarks).mean() for f, s in zip(found, real, strict=True)])
    assert errors["real"] != errors["mean"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--apex", "20", "--hold", "20", "--frames", "30"], "found apex 20 and hold 20 with the last frame 30"),
        (["--onset", "9", "--apex", "3"], "found apex 3 with onset 9"),
        (["--apex", "nan"], "--apex"),
        (["--apex", "-4"], "--apex"),
        (["--real-controls"], "--real-controls"),
    ],
)
def test_controls_that_cannot_be_are_one_line(folder, tmp_path, run_here, words, said):
    base = ["--checkpoint", folder / "models/x.pt", "--actor", folder / "me.npy", "--label", "Happy"]
    result = run_here("test.py", *base, *words, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and said in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


def test_a_generator_that_follows_none_says_so(folder, tmp_path, run_here):
    trained(folder, replace(CONTROLS, controls=False), run="plain")
    base = ["--checkpoint", folder / "models/plain.pt", "--actor", folder / "me.npy", "--label", "Happy"]
    result = run_here("test.py", *base, "--apex", 4, cwd=tmp_path)
    assert result.returncode == 2 and "main.py --controls" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--controls", "--warps", "4"], "--warps"),
        (["--controls", "--network", "thesis"], "--controls"),
        (["--controls", "--start-frames", "every"], "--controls"),
    ],
)
def test_settings_that_do_not_fit_controls_are_refused(folder, tmp_path, run_here, words, flag):
    base = ["--dataset", "florence", "--labels", "all", "--landmarks", folder / "landmarks", "--test-subjects", "CH01"]
    result = run_here("main.py", *base, *words, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith(f"error: {flag}:"), result.stderr
