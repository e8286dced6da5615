"""main.py --model flow and test.py --samples as a user runs them."""

import numpy as np
import pytest

from face4d.errors import InputError
from tests.conftest import toy_sequence
from tests.test_scripts_motion3dgan import script

DATA = ("--dataset", "florence", "--landmarks", "landmarks", "--labels", "all", "--quiet")
TINY = {"--epochs": 2, "--steps-per-epoch": 20, "--hidden-size": 8, "--components": 4, "--blocks": 1, "--run": "f"}


@pytest.fixture
def workplace(landmark_folder, monkeypatch):
    monkeypatch.chdir(landmark_folder.parent)
    return landmark_folder.parent


def train():
    """Makes models/f.pt."""
    script("main.py", "--model", "flow", *DATA, *(word for pair in TINY.items() for word in pair))


def test_train_and_draw_samples_of_the_test_set(workplace, capsys):
    train()
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == ["wrote models/f.pt", "wrote runs/f"] and "nearest of ten" in told[-3]
    base = ("--checkpoint", "models/f.pt", "--no-gif", "--quiet")
    script("test.py", *base, "--samples", 2, "--seed", 4)
    folder = workplace / "Generated_Animation" / "f"
    drawn = [np.load(folder / f"sample_0{number}" / "CH01_Rage" / "Rage_CH01.npy") for number in range(2)]
    real = np.load(workplace / "landmarks" / "Rage_CH01.npy")
    assert drawn[0].shape == real.shape and np.abs(drawn[0] - drawn[1]).max() > 1e-6
    np.testing.assert_array_equal(drawn[0][0], real[0])


def test_controls_steer_a_face_of_ones_own(workplace):
    train()
    np.save("me.npy", toy_sequence(0, 8, 3)[0])
    own = ("--checkpoint", "models/f.pt", "--actor", "me.npy", "--label", "Happy", "--quiet", "--no-gif")
    script("test.py", *own, "--frames", 60, "--apex", 10, "--hold", 30, "--strength", 0.5, "--output", "a")
    moved = np.load("a/me_Happy/Happy_me.npy")
    away = np.linalg.norm(moved - moved[0], axis=(1, 2))
    assert moved.shape == (61, 68, 3) and away[10:41].min() > 0.8 * away.max() and away[4] < 0.6 * away.max()
    with pytest.raises(InputError, match="controls: expected .*, found apex 50 and hold 30 with the last frame 60"):
        script("test.py", *own, "--frames", 60, "--apex", 50, "--hold", 30)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", "flow", "--warps", 3), "--warps: expected --model motion3dgan with it|--warps: expected --model"),
        (("--model", "flow", "--preset", "published"), "--preset: expected default"),
        (("--smoothing", 0.5), "--smoothing: expected --model flow with it"),
        (("--model", "motion3dgan", "--blocks", 2), "--blocks: expected --model flow with it"),
    ],
)
def test_flags_of_another_model_are_refused(workplace, flags, message):
    with pytest.raises(InputError, match=message):
        script("main.py", *DATA, *flags)
