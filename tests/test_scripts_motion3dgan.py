"""main.py --model motion3dgan and test.py --samples as a user runs them."""

import runpy

import numpy as np
import pytest

from face4d.errors import InputError
from tests.conftest import REPOSITORY, toy_sequence
from tests.test_generation_motion3dgan import save_samples

TINY = (
    "--epochs",
    "2",
    "--steps-per-epoch",
    "2",
    "--batch-size",
    "4",
    "--hidden-size",
    "8",
    "--components",
    "4",
    "--points",
    "12",
    "--run",
    "g",
)


def script(name, *arguments):
    return runpy.run_path(str(REPOSITORY / name))["main"]([str(argument) for argument in arguments])


@pytest.fixture
def workplace(landmark_folder, monkeypatch):
    monkeypatch.chdir(landmark_folder.parent)
    return landmark_folder.parent


def test_train_and_draw_samples_of_the_test_set(workplace, capsys):
    script(
        "main.py",
        "--model",
        "motion3dgan",
        "--dataset",
        "florence",
        "--landmarks",
        "landmarks",
        "--labels",
        "all",
        *TINY,
        "--quiet",
    )
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == ["wrote models/g.pt", "wrote runs/g"] and "nearest of ten" in told[-3]
    script(
        "main.py",
        "--model",
        "motion3dgan",
        "--dataset",
        "florence",
        "--landmarks",
        "landmarks",
        "--labels",
        "all",
        *TINY,
        "--quiet",
        "--resume",
    )
    assert capsys.readouterr().out.splitlines() == [*told[:-2], "kept models/g.pt", "kept runs/g"]
    base = ("--checkpoint", "models/g.pt", "--no-gif", "--quiet")
    script("test.py", *base, "--samples", 3, "--seed", 4)
    folder = workplace / "Generated_Animation" / "g"
    assert sorted(path.name for path in folder.iterdir()) == ["sample_00", "sample_01", "sample_02"]
    drawn = [np.load(folder / f"sample_0{number}" / "CH01_Rage" / "Rage_CH01.npy") for number in range(3)]
    assert all(sorted(path.name for path in sample.iterdir())[0] == "CH01_Happy" for sample in folder.iterdir())
    real = np.load(workplace / "landmarks" / "Rage_CH01.npy")
    assert drawn[0].shape == real.shape and np.abs(drawn[0] - drawn[1]).max() > 1e-6
    np.testing.assert_array_equal(drawn[0][0], real[0])
    script("test.py", *base, "--seed", 4, "--output", "plain")
    np.testing.assert_array_equal(np.load(workplace / "plain" / "CH01_Rage" / "Rage_CH01.npy"), drawn[0])
    script("test.py", *base, "--seed", 5, "--output", "other")
    assert np.abs(np.load(workplace / "other" / "CH01_Rage" / "Rage_CH01.npy") - drawn[0]).max() > 1e-6
    with pytest.raises(InputError, match="--overwrite"):
        script("test.py", *base, "--samples", 3)


def test_published_samples_make_faces_move(workplace):
    save_samples(workplace / "mat")
    script("main.py", "--model", "motion3dgan", "--landmarks", "mat", *TINY, "--quiet")
    np.save(workplace / "me.npy", toy_sequence(0, 8, 3)[0])
    own = ("--checkpoint", "models/g.pt", "--actor", "me.npy", "--quiet", "--no-gif")
    script("test.py", *own, "--label", "all", "--samples", 2)
    folder = workplace / "Generated_Animation" / "g_own" / "sample_01"
    assert np.load(folder / "me_mouth-up" / "mouth-up_me.npy").shape == (30, 68, 3) and len(list(folder.iterdir())) == 2
    with pytest.raises(InputError, match="mat: expected faces to animate .*, found curves without faces"):
        script("test.py", "--checkpoint", "models/g.pt")
    with pytest.raises(InputError, match="one training sequence|at least one sequence"):
        script("main.py", "--landmarks", "mat", "--epochs", "1", "--quiet")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", "motion3dgan", "--preset", "thesis"), "--preset: expected default or published"),
        (("--preset", "published"), "--preset: expected default or thesis"),
        (("--model", "motion3dgan", "--network", "thesis"), "--network: expected coefficients or convolution"),
        (("--model", "motion3dgan", "--loss", "l1"), "--loss: expected --model lstm with it"),
        (("--width", "0.5"), "--width: expected --model motion3dgan with it"),
        (("--averaging", "0"), "--averaging: expected --model motion3dgan with it"),
    ],
)
def test_flags_of_the_other_model_are_refused(workplace, flags, message):
    with pytest.raises(InputError, match=message):
        script("main.py", "--dataset", "florence", "--landmarks", "landmarks", "--labels", "all", *flags)
    assert not (workplace / "models").exists()


def test_one_answer_is_no_sample(workplace):
    script(
        "main.py",
        "--dataset",
        "florence",
        "--landmarks",
        "landmarks",
        "--labels",
        "all",
        "--epochs",
        "1",
        "--hidden-size",
        "8",
        "--run",
        "l",
        "--quiet",
    )
    with pytest.raises(InputError, match="stochastic generator to draw 2 samples"):
        script("test.py", "--checkpoint", "models/l.pt", "--samples", 2)
