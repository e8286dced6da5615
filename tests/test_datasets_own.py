"""Data sets as entries: the built-in ones, registered ones, and one's own from a TOML file, well and badly written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from face4d.constants import COMA_LABELS, DEMO_VERTICES
from face4d.datasets.entry import DATASETS, Dataset, register
from face4d.datasets.own import find_dataset, read_dataset
from face4d.datasets.source import choose_source
from face4d.datasets.survey import survey
from face4d.demo.head import demo_head
from face4d.errors import InputError
from face4d.mesh.ply import write_ply
from tests.conftest import toy_head, write_landmarks

GOOD = (
    'meshes = "Scans"\nformat = "ply"\nframes = 31\nlabels = ["mouth_open", '
    '"Happy"]\ntest_subjects = ["S5"]\nembedding = "head.npz"\n'
)


def write(tmp_path: Path, text: str, name: str = "mine") -> Path:
    path = tmp_path / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_built_in_entries():
    coma, florence, demo = (DATASETS[name] for name in ("coma", "florence", "demo"))
    assert coma.to_resample().resampled == Path("sampling") and florence.to_convert().folder == Path(
        "Dataset_FLAME_Aligned"
    )
    assert (
        demo.to_convert().format == "obj"
        and demo.to_convert() is demo.to_use_as_they_are()
        and demo.to_resample() is demo.mesh_sequences()
    )
    assert demo.vertices == DEMO_VERTICES == len(demo_head().mean)
    assert [name for name, entry in DATASETS.items() if entry.thesis_name] == ["coma", "florence"]
    with pytest.raises(InputError, match=r"--dataset coma: .*sampling_coma.py and get_landmark_coma.py"):
        coma.to_use_as_they_are()
    with pytest.raises(InputError, match=r"--dataset florence: .*get_animation_landmark_ply.py"):
        florence.to_resample()
    with pytest.raises(InputError, match="--dataset own: expected a data set with meshes .* found landmarks alone"):
        DATASETS["own"].to_convert()


def test_registering_refuses_taken_names_and_other_spellings():
    known = dict(DATASETS)
    for entry, complaint in (
        (Dataset("coma", None), "a name that is free, found coma"),
        (Dataset("../x", None), "a name of letters"),
        (Dataset("x", None, labels=("mouth_open",)), "labels with dashes"),
        (Dataset("x", None, test_subjects=("a/b",)), "a test subject of letters"),
    ):
        with pytest.raises(InputError, match=complaint):
            register(entry)
    assert known == DATASETS


def test_a_file_is_an_entry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GOOD)
    mine = find_dataset("mine")
    assert (mine.name, mine.to_resample().frames, mine.labels, mine.test_subjects) == (
        "mine",
        31,
        ("Happy", "mouth-open"),
        ("S5",),
    )
    assert (
        mine.models == Path("mine/models")
        and mine.landmarks == Path("mine/landmarks")
        and mine.to_resample().resampled == Path("mine/sampling")
    )
    assert (
        mine.embedding == Path("head.npz") and mine.meshes[0].landmarks == mine.landmarks and mine.thesis_name is None
    )
    write(tmp_path, 'landmarks = "marks"\ntest_subjects = ["S5"]\noutput = "made"\n', "other one")
    other = find_dataset("other one")
    assert (
        other.meshes == ()
        and other.landmarks == Path("marks")
        and other.runs == Path("made/runs")
        and other.labels is None
    )


def test_from_elsewhere_its_paths_are_those_of_its_folder_and_outputs_are_here(tmp_path, monkeypatch):
    (tmp_path / "there" / "mine" / "models").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    write(tmp_path / "there", GOOD)
    monkeypatch.chdir(tmp_path / "here")
    found = find_dataset("mine", tmp_path / "there" / "mine" / "models" / "mine.pt")
    assert found.meshes[0].folder == tmp_path / "there" / "Scans" and found.output == Path("mine")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "meshes = or landmarks = .* found neither"),
        ("meshes = x\n", r"a TOML file, found .*line 1"),
        ('meshes = "a"\nmeshes = "b"', "a TOML file, found "),
        ('meshes = "a"', "format to be ply or obj, of the files in meshes, found no format"),
        ('meshes = "a"\nformat = "stl"', "expected format to be ply or obj, found 'stl'"),
        ('meshes = 3\nformat = "ply"', "expected meshes to be text .* found 3"),
        ('meshes = ""\nformat = "ply"', "expected meshes to be a path, found ''"),
        ('landmarks = "a"\nframes = 30', "meshes, which frames is about, found frames alone"),
        (GOOD.replace("31", "1"), "expected frames to be an integer from 2 to 10000, found 1"),
        (GOOD.replace("31", "31.5"), "expected frames to be an integer .* found 31.5"),
        (GOOD.replace("31", "true"), "expected frames to be an integer .* found true"),
        (GOOD.replace('"S5"', '"../S5"'), r"expected test_subjects\[0\] to be a name of letters.*found '../S5'"),
        (
            GOOD.replace('"S5"', '"S5", "S5"'),
            "expected test_subjects to be a list without repetitions, found 'S5' twice",
        ),
        (GOOD.replace('"S5"', '"S5", "s5"'), "one spelling of a test subject, found S5 and s5"),
        (GOOD.replace('"Happy"', '"mouth-open"'), "expected labels to be different, found mouth-open twice"),
        (GOOD.replace('["mouth_open", "Happy"]', "[]"), "expected labels to be a list of 1 to 1000, found a list of 0"),
        (
            GOOD.replace("labels", "lables"),
            "expected lables to be one of the keys .* found no such key; the nearest is labels",
        ),
        (GOOD + 'flame = "models/flame"', "flame or embedding, one of them, found both"),
        (GOOD + 'output = "a/b"', "expected output to be a name of letters.* found 'a/b'"),
        (GOOD + 'output = ".."', "expected output to be a name"),
        (GOOD.replace('"Scans"', '"."'), "output outside of meshes, .*, found mine, which is inside"),
        (GOOD + 'landmarks = "Scans/marks"', "landmarks outside of meshes"),
        ("x" * (1 << 20) + "x", "at most 1 MB"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path, monkeypatch, text, complaint):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    with pytest.raises(InputError, match=f"^mine.toml: .*{complaint}") as caught:
        find_dataset("mine")
    assert "\n" not in str(caught.value)


def test_names_never_become_paths_unchecked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", GOOD)
    for name in ("sub/mine", "../mine", ".mine", "", "mine\n"):
        with pytest.raises(InputError, match="--dataset: expected coma, florence, demo, or the name"):
            find_dataset(name)
    with pytest.raises(InputError, match="found flornce and no flornce.toml; the nearest is florence"):
        find_dataset("flornce")
    with pytest.raises(InputError, match=r"florence.toml: expected a name that no data set has"):
        read_dataset(write(tmp_path, GOOD, "florence"))
    (tmp_path / "mine.toml").write_bytes(b'meshes = "\xff"')
    with pytest.raises(InputError, match="mine.toml: expected a TOML file, in UTF-8, found byte 10"):
        find_dataset("mine")


def test_landmarks_named_by_hand_belong_to_no_data_set(tmp_path):
    source = choose_source(landmarks=tmp_path)
    assert (
        source.dataset == "own"
        and source.labels is None
        and source.test_subjects == ()
        and source.entry.thesis_name is None
    )
    assert source.words() == ["--landmarks", str(tmp_path)] and source.as_dict()["dataset"] == "own"
    florence = choose_source()
    assert (
        florence.dataset == "florence"
        and florence.words() == ["--dataset", "florence"]
        and len(florence.labels or ()) == 10
    )
    named = choose_source(dataset="coma", landmarks=tmp_path, labels=["mouth_open"])
    assert named.labels == (COMA_LABELS[9],) and named.words() == ["--dataset", "coma", "--landmarks", str(tmp_path)]
    with pytest.raises(InputError, match="--landmarks: expected the landmark folder of own data, found none"):
        choose_source(dataset="own")


def test_what_a_checkpoint_remembers_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = {
        "dataset": "florence",
        "landmarks": "Landmark_dataset_flame_aligned",
        "test_subjects": ["CH01"],
        "labels": None,
        "actors": None,
        "flame": "models/flame",
    }
    assert choose_source(remembered=old).entry is DATASETS["florence"]
    own = choose_source(landmarks=Path("marks"), test_subjects=["S1"])
    assert replace(choose_source(remembered=own.as_dict()), given=own.given) == own
    write(tmp_path, GOOD)
    mine = choose_source(dataset="mine")
    assert choose_source(remembered=mine.as_dict()) == mine
    Path("mine.toml").unlink()  # then what was recorded has to do
    again = choose_source(remembered=mine.as_dict())
    assert (again.dataset, again.landmarks, again.test_subjects, again.landmark_embedding) == (
        "mine",
        Path("mine/landmarks"),
        ("S5",),
        Path("head.npz"),
    )
    assert again.entry.models == Path("mine/models") and again.topology() is None
    with pytest.raises(InputError, match="no mine.toml"):
        choose_source(remembered={"dataset": "mine"})


def test_a_look_at_landmark_folders(tmp_path):
    marks = write_landmarks(tmp_path / "marks", ("Happy", "Rage"), [f"S{number:02d}" for number in range(1, 12)], 9)
    found = survey(marks)
    assert (found.format, found.sequences, found.frames, found.test_subjects, found.resampled) == (
        None,
        22,
        (9, 9),
        ("S10", "S11"),
        None,
    )
    assert json.dumps(found.values("mine"))  # plain
    split = tmp_path / "split"
    for half, subjects in (("dataset_training", ["S1", "S3"]), ("dataset_testing", ["S2"])):
        write_landmarks(split / half, ("Happy",), subjects, 9)
    assert survey(split).test_subjects == ("S2",)


def test_a_look_at_what_is_no_data(tmp_path):
    with pytest.raises(
        InputError, match="nowhere: expected a folder of mesh sequences or landmark files, found no such folder"
    ):
        survey(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found neither"):
        survey(tmp_path)
    vertices, faces = toy_head()
    place = tmp_path / "one" / "Ada" / "smile"
    place.mkdir(parents=True)
    for number in (1, 2, 4):
        write_ply(place / f"{number}.ply", vertices, faces)
    with pytest.raises(InputError, match="two subjects or more, of which one is tested on, found one, Ada"):
        survey(tmp_path / "one")
    (tmp_path / "one" / "Ben").mkdir()
    (place.rename(tmp_path / "one" / "Ben" / "smile")).joinpath("3.ply").write_bytes(
        (tmp_path / "one/Ben/smile/4.ply").read_bytes()
    )
    (tmp_path / "one" / "Ada" / "smile").mkdir()
    for number in range(3):
        write_ply(tmp_path / "one" / "Ada" / "smile" / f"{number}.ply", vertices, faces)
    np.savez(tmp_path / "other.npz", face_idx=np.arange(68), bary=np.full((68, 3), 1 / 3), faces=faces[:, ::-1] % 200)
    found = survey(tmp_path / "one")
    assert (
        found.frames == (3, 4) and found.resampled == 41 and found.vertices == 204 and found.test_subjects == ("Ben",)
    )
    assert found.embedding is None and found.flame is None and any("none found" in line for line in found.describe())


def test_test_subjects_that_are_not_those_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split = tmp_path / "split"
    for half, subjects in (("dataset_training", ["S1", "S3"]), ("dataset_testing", ["S2"])):
        write_landmarks(split / half, ("Happy",), subjects, 9)
    assert choose_source(landmarks=split, test_subjects=["S2"]).load().test[0].subject == "S2"
    plain = write_landmarks(tmp_path / "plain", ("Happy",), ["S1", "S2", "S3"], 9)
    for folder, asked in ((split, ["S1"]), (split, ["S4"]), (split, ["S2", "S3"]), (plain, ["S2", "S4"])):
        with pytest.raises(
            InputError, match=f"--test-subjects: expected test subjects S2, .* found {', '.join(asked)}$"
        ):
            choose_source(landmarks=folder, test_subjects=asked).load()
    write(tmp_path, 'landmarks = "split"\ntest_subjects = ["S2", "S3"]\n')
    with pytest.raises(InputError, match="mine.toml: expected test subjects S2, .* found S3, in the training set"):
        choose_source(dataset="mine").load()
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "Happy.mat").touch()
    with pytest.raises(InputError, match="--test-subjects: expected landmark files .*, found SRVF samples in "):
        choose_source(landmarks=tmp_path / "curves", test_subjects=["S2"]).load()
