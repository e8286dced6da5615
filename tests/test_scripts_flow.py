"""main.py --model flow and test.py --samples as a user runs them."""

import numpy as np
import pytest

from face4d.commands.motion_flags import kept_mask
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
    with pytest.raises(InputError, match="--onset, .*: expected .*, found apex 50 and hold 30 with the last frame 60"):
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


def test_fill_in_the_test_set_and_a_face_of_ones_own(workplace):
    train()
    base = ("--checkpoint", "models/f.pt", "--no-gif", "--quiet")
    script("test.py", *base, "--keep", "real", "--mask", "0,4,8,12", "--output", "a")
    real, made = np.load("landmarks/Rage_CH01.npy"), np.load("a/CH01_Rage/Rage_CH01.npy")
    np.testing.assert_allclose(made[::4], real[::4], rtol=0, atol=1e-6)
    assert np.abs(made - real).max() > 1e-6
    np.save("me.npy", toy_sequence(0, 8, 3)[0])
    own = (*base, "--actor", "me.npy", "--label", "Rage", "--output", "b")
    script("test.py", *own, "--keep", "landmarks/Rage_CH01.npy", "--mask", "mouth", "--samples", 2)
    made = np.load("b/sample_01/me_Rage/Rage_me.npy")
    np.testing.assert_allclose((made - made[0])[:, 48:], (real - real[0])[:, 48:], rtol=0, atol=1e-6)
    script("test.py", *own, "--keep", "landmarks/Rage_CH01.npy", "--mask", "mouth", "--samples", 2)  # nothing to do
    with pytest.raises(InputError, match="found one made with keep = "):
        script("test.py", *base, "--output", "a")
    script("test.py", *base, "--output", "c")
    with pytest.raises(InputError, match="found one made without keep"):
        script("test.py", *base, "--keep", "real", "--mask", "mouth", "--output", "c")
    mask = np.zeros((13, 68), np.uint8)
    mask[3, :17] = 1
    np.save("mask.npy", mask)
    script("test.py", *own, "--keep", "landmarks/Rage_CH01.npy", "--mask", "mask.npy", "--overwrite")
    made = np.load("b/me_Rage/Rage_me.npy")
    np.testing.assert_allclose((made - made[0])[3, :17], (real - real[0])[3, :17], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "frames", "landmarks"),
    [
        ("0,2", [0, 2], range(68)),
        ("1-3", [1, 2, 3], range(68)),
        ("mouth", range(5), range(48, 68)),
        (" Mouth , 1 ", [1], range(48, 68)),
        ("jaw,brows,4", [4], range(27)),
    ],
)
def test_masks_in_words(text, frames, landmarks):
    expected = np.zeros((5, 68), bool)
    expected[np.ix_(list(frames), list(landmarks))] = True
    np.testing.assert_array_equal(kept_mask(text, 5), expected)


@pytest.mark.parametrize("text", ["5", "3-1", "nostrils", "", "1,,2", "1-", "-1", "1.5", "mouth 3"])
def test_masks_that_say_nothing(text):
    with pytest.raises(InputError, match="--mask: expected frames 0 to 4 or groups"):
        kept_mask(text, 5)


def test_mask_files_that_do_not_fit(tmp_path):
    for array in (np.ones((4, 68)), np.full((5, 68), 2), np.ones(5)):
        np.save(tmp_path / "m.npy", array)
        with pytest.raises(InputError, match=r"expected a \(5, 68\) array of zeros and ones"):
            kept_mask(str(tmp_path / "m.npy"), 5)
    np.save(tmp_path / "m.npy", np.ones((4, 68)))
    with pytest.raises(InputError, match=r"found shape \(4, 68\)"):
        kept_mask(str(tmp_path / "m.npy"), 5)
    mask = np.arange(5 * 68).reshape(5, 68) % 3 == 0
    np.save(tmp_path / "m.npy", mask)
    np.testing.assert_array_equal(kept_mask(str(tmp_path / "m.npy"), 5), mask)
    np.save(tmp_path / "m.npy", np.zeros((5, 68)))
    with pytest.raises(InputError, match="--mask: expected something that is kept"):
        kept_mask(str(tmp_path / "m.npy"), 5)


@pytest.mark.parametrize(
    "flags",
    [
        ("--keep", "real"),
        ("--mask", "mouth"),
        ("--keep", "x.npy", "--mask", "mouth"),
        ("--keep", "real", "--mask", "mouth", "--label", "Happy", "--actor", "me.npy"),
        ("--keep", "real", "--mask", "mouth", "--intensity", 2),
        ("--keep", "real", "--mask", "mouth", "--frames", 20),
        ("--keep", "real", "--mask", "mouth", "--real-controls"),
    ],
)
def test_flags_that_do_not_go_with_filling_in(workplace, flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        script("test.py", "--checkpoint", "x.pt", *flags)
    assert stopped.value.code == 2 and "--keep" in capsys.readouterr().err.splitlines()[-1]


def test_nothing_is_generated_to_say_what_would_be(workplace, monkeypatch, capsys):
    train()
    command = ("test.py", "--checkpoint", "models/f.pt", "--no-gif", "--quiet", "--keep", "real", "--mask", "mouth")
    script(*command)

    def fill(*args):
        raise AssertionError("generates")

    monkeypatch.setattr("face4d.generation.sample.fill", fill)
    script(*command)
    script(*command, "--dry-run", "--output", "b")
    assert "would write" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="generates"):
        script(*command, "--output", "b")
    with pytest.raises(InputError, match="found apex 500 with the last frame 12"):
        script(*command, "--dry-run", "--output", "b", "--apex", 500)


def test_kept_sequences_have_a_longest(tmp_path, workplace):
    train()
    neutral = toy_sequence(0, 8, 3)[0]
    np.save("long.npy", np.broadcast_to(neutral, (10_002, 68, 3)))
    np.save("me.npy", neutral)
    own = ("--checkpoint", "models/f.pt", "--quiet", "--no-gif", "--actor", "me.npy", "--label", "Rage")
    with pytest.raises(InputError, match="at most 10000 frames after the neutral one, found 10001"):
        script("test.py", *own, "--keep", "long.npy", "--mask", "mouth")


def test_what_is_kept_and_no_motion_of_the_label_is_told(workplace, caplog):
    train()
    base = ("--checkpoint", "models/f.pt", "--no-gif", "--quiet", "--actor", "me.npy", "--label", "Rage")
    np.save("me.npy", toy_sequence(0, 8, 3)[0])
    real = np.load("landmarks/Rage_CH03.npy")
    script("test.py", *base, "--keep", "landmarks/Rage_CH03.npy", "--mask", "mouth", "--output", "a")
    assert "what is kept" not in caplog.text
    real[6, 48:] += [0.02, 0, 0]
    np.save("strange.npy", real)
    script("test.py", *base, "--keep", "strange.npy", "--mask", "mouth", "--output", "b", "--samples", 2)
    assert caplog.text.count("note: what is kept is not a motion of Rage") == 1
