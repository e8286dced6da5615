"""test.py --timeline as a user runs it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.conftest import toy_sequence, write_landmarks

SCENE = "label,onset,apex,release,offset,strength,region\nHappy,2,8,12,20,,\nRage,12,20,25,30.5,0.5,mouth+jaw\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with a generator that follows controls, one that does not, and a neutral face."""
    from tests.conftest import load_script

    folder = tmp_path_factory.mktemp("timeline")
    write_landmarks(folder / "landmarks", ("Happy", "Rage"), ("CH01", "CH03", "CH04"), 13)
    words = ["--dataset", "florence", "--landmarks", "landmarks", "--labels", "all", "--hidden-size", "8"]
    words += ["--epochs", "2", "--quiet", "--run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for run, more in (("steered", ["--controls"]), ("plain", [])):
            load_script("main.py").main([*words, run, *more])
    np.save(folder / "me.npy", toy_sequence(0, 8, 3)[0])
    (folder / "my_scene.csv").write_text(SCENE)
    return folder


@pytest.fixture
def workplace(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    return tmp_path / "w"


PLAY = ("test.py", "--checkpoint", "models/steered.pt", "--actor", "me.npy", "--timeline", "my_scene.csv")


def test_a_scene_is_written_kept_refused_and_replaced(workplace, run_here):
    first = run_here(*PLAY, "--fps", 50, cwd=workplace)
    place = "Generated_Animation/steered_own/me_my-scene"
    assert first.returncode == 0 and first.stdout.splitlines()[-1] == f"wrote {place}", first.stderr
    found = np.load(workplace / place / "my-scene_me.npy")
    neutral = np.load(workplace / "me.npy")
    assert found.shape == (32, 68, 3) and found.dtype == np.float32  # up to the last offset, 30.5
    assert (found[[0, 1, 2, 31]] == neutral).all() and (found[5:30] != neutral).any(axis=(1, 2)).all()
    with Image.open(workplace / place / "my-scene_me.gif") as picture:
        assert picture.n_frames == 32
    assert "timeline" in json.loads((workplace / place / "made.json").read_text())["settings"]
    assert run_here(*PLAY, "--fps", 50, cwd=workplace).stdout.splitlines()[-1] == f"kept {place}"
    (workplace / "my_scene.csv").write_text(SCENE.replace("0.5", "0.6"))
    other = run_here(*PLAY, "--fps", 50, cwd=workplace)
    assert other.returncode == 2 and "one made with timeline = " in other.stderr and "--overwrite" in other.stderr
    would = run_here(*PLAY, "--fps", 50, "--overwrite", "--dry-run", cwd=workplace)
    assert would.returncode == 0 and "would write 1 sequence" in would.stdout
    np.testing.assert_array_equal(np.load(workplace / place / "my-scene_me.npy"), found)
    longer = run_here(*PLAY, "--overwrite", "--frames", 40, "--intensity", 2, "--no-gif", cwd=workplace)
    assert longer.returncode == 0, longer.stderr
    again = np.load(workplace / place / "my-scene_me.npy")
    assert again.shape == (41, 68, 3) and (again[32:] == neutral).all()
    np.testing.assert_allclose(again[:10] - neutral, 2 * (found[:10] - neutral), atol=1e-7)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkpoint", "models/plain.pt"], ["models/plain.pt", "a generator that follows controls"]),
        (
            ["--frames", 25],
            ["my_scene.csv:3", "offset: a number from 0 to 25, frames of the scene (--frames), found 30.5"],
        ),
        (["--timeline", "nothing.csv"], ["nothing.csv", "a timeline", "no such file"]),
        (["--timeline", "me.npy"], ["me.npy", "no UTF-8 text"]),
        (["--label", "Happy"], ["give no --label"]),
        (["--apex", 10], ["no other controls"]),
        (["--guidance", 2], ["models/steered.pt: expected a generator with guidance", "found one without"]),
        (["--output", "me.npy"], ["error: me.npy: expected a folder", "found a file"]),
        (["--output", "me.npy/in", "--dry-run"], ["error: me.npy: expected a folder", "found a file"]),
        (["--samples", 3], ["models/steered.pt", "--samples of a timeline"]),
    ],
)
def test_what_cannot_be_is_one_line(workplace, run_here, words, said):
    result = run_here(*PLAY, *words, cwd=workplace)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in said), result.stderr
    assert not (workplace / "Generated_Animation").exists()


def test_a_scene_needs_a_face(workplace, run_here):
    result = run_here("test.py", "--checkpoint", "models/steered.pt", "--timeline", "my_scene.csv", cwd=workplace)
    assert result.returncode == 2 and "--actor" in result.stderr and result.stderr.count("\n") == 1
