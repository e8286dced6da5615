"""Files that belong to a checkpoint: found from where it lies, refused where they do not fit."""

import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from face4d.constants import DEMO_VERTICES
from face4d.datasets.companions import Topology, find, require_fit
from face4d.demo.write import write_demo
from face4d.errors import InputError
from tests.conftest import REPOSITORY, write_landmarks

LANDMARKS = "demo/Landmark_dataset_flame_aligned_coma"


def script(name, *arguments):
    runpy.run_path(str(REPOSITORY / name))["main"]([*map(str, arguments)])


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_recorded_path_is_found_from_where_the_checkpoint_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path / "empty" / "x").parent)
    owner = touch(tmp_path / "F" / "demo" / "models" / "grid" / "run.pt")
    wanted = touch(tmp_path / "F" / "demo" / "models" / "flame" / "template.obj").parent
    for recorded in ("demo/models/flame", str(wanted), "/gone/away/demo/models/flame"):
        assert find(owner, recorded) == wanted, recorded
    assert find(Path("..") / "F" / "demo" / "models" / "grid" / "run.pt", "demo/models/flame") == wanted
    (tmp_path / "F" / "demo").rename(tmp_path / "F" / "renamed")
    assert (
        find(tmp_path / "F" / "renamed" / "models" / "grid" / "run.pt", "demo/models/flame")
        == tmp_path / "F" / "renamed" / "models" / "flame"
    )
    alone = touch(tmp_path / "alone" / "run.pt")
    assert find(alone, "demo/models/flame") is None
    assert find(alone, "nowhere\0") is None and find(alone, "x" * 5000) is None and find(alone, "/") == Path("/")


def test_its_own_working_folder_comes_before_the_working_directory(tmp_path, monkeypatch):
    other = touch(tmp_path / "other" / "demo" / "models" / "flame")
    own = touch(tmp_path / "F" / "demo" / "models" / "flame")
    monkeypatch.chdir(tmp_path / "other")
    assert find(tmp_path / "F" / "demo" / "models" / "demo.pt", "demo/models/flame") == own
    assert find(tmp_path / "alone" / "demo.pt", "demo/models/flame") == Path("demo/models/flame")
    own.unlink()
    assert find(tmp_path / "F" / "demo" / "models" / "demo.pt", "demo/models/flame").resolve() == other


def test_what_does_not_fit_is_named_with_what_would():
    require_fit("g.pt", Topology(871), "e.pt", Topology(871), "makes", "--encoder FILE")
    demo = Topology(DEMO_VERTICES)
    with pytest.raises(InputError) as caught:
        require_fit("models/florence.pt", Topology(5023), "models/deca_demo.pt", demo, "makes", "--encoder FILE")
    words = [
        "models/deca_demo.pt",
        "models/florence.pt",
        "FLAME (5023 vertices)",
        f"the demo head ({demo.vertices} vertices)",
    ]
    words += ["give --encoder FILE of FLAME or a generator of the demo head"]
    assert all(word in str(caught.value) for word in words), caught.value
    assert str(Topology(77)) == "a head of 77 vertices"
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2]])
    # in another order
    require_fit("g.pt", Topology(5, faces), "d.pt", Topology(5, faces[::-1, [1, 2, 0]]), "moves", "--dense FILE")
    with pytest.raises(InputError, match=r"d.pt: expected .*triangles.* g.pt .*--dense FILE.*flipped"):
        require_fit("g.pt", Topology(5, faces), "d.pt", Topology(5, faces[:, ::-1]), "moves", "--dense FILE")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """F/demo with a small demo, landmarks, a generator of it, a decoder and a classifier; F/models with a generator of
    Florence."""
    from face4d.classification.config import PRESETS as JUDGES
    from face4d.datasets.landmark_set import load_split
    from face4d.generation.config import PRESETS
    from face4d.runtime.run_folder import Run
    from tests.conftest import load_script

    root = tmp_path_factory.mktemp("project") / "F"
    write_demo(
        root / "demo", subjects=2, coma_labels=["mouth_open", "high_smile"], florence_labels=[], florence_subjects=[]
    )
    landmarks = write_landmarks(root / LANDMARKS, ("high-smile", "mouth-open"), ("Demo01", "Demo02"), 9)
    split = load_split(landmarks, test_subjects=("Demo02",))
    config = PRESETS["default"].with_settings({"hidden_size": 8, "epochs": 1})
    source = {"dataset": "demo", "landmarks": LANDMARKS, "test_subjects": ["Demo02"], "flame": "demo/models/flame"}
    for name, folder, own in (("demo", root / "demo", source), ("florence", root, {"dataset": "florence"})):
        load_script("main.py").train(
            replace(split, source=own), config, Run(name, folder / "models", folder / "runs", quiet=True)
        )
    judge = JUDGES["default"].with_settings({"hidden_size": 8, "epochs": 1})
    load_script("Classification/main.py").train(
        replace(split, source=source), judge, Run("judge", root / "demo" / "models", root / "demo" / "runs", quiet=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        script("Sparse2Dense/main.py", "--dataset", "demo", "--frame-step", 8, "--strength", 1e-6, "--quiet")
    return root


@pytest.fixture
def elsewhere(project, tmp_path, monkeypatch):
    """An empty working folder beside a copy of F."""
    shutil.copytree(project, tmp_path / "F")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "F"


def test_generating_scoring_and_figures_from_another_folder(elsewhere):
    demo = (elsewhere / "demo").rename(elsewhere / "moved")
    script("test.py", "--checkpoint", demo / "models/demo.pt", "--output", "all", "--no-gif", "--quiet")
    assert sorted(path.name for path in Path("all").iterdir()) == ["Demo02_high-smile", "Demo02_mouth-open"]
    own = ("--actor", demo / "actors/Demo02.ply", "--label", "mouth_open", "--no-gif", "--quiet")
    script("test.py", "--checkpoint", demo / "models/demo.pt", *own, "--output", "own")
    script("test.py", "--checkpoint", demo / "models/demo.pt", *own, "--output", "dense", "--dense", "--export", "ply")
    assert len(list(Path("dense").rglob("*.ply"))) == len(np.load(next(Path("own").rglob("*.npy"))))
    script(
        "Classification/test.py",
        "--checkpoint",
        demo / "models/judge.pt",
        "--generated",
        "all",
        "--output",
        demo / "results/x",
        "--no-figures",
    )
    # the generated folder lies elsewhere now, beside the record
    moved = (elsewhere.parent / "empty").rename(elsewhere.parent / "later")
    shutil.copytree(moved / "all", demo / "all")
    from face4d.evaluation.results import read_scored, truth_files

    scored = read_scored(demo / "results" / "x" / "evaluate.json")
    assert len(scored.generated) == 2 and len(truth_files(scored, [])) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["alone/demo.pt", LANDMARKS, "--landmarks DIR"]),
        (
            ["--actor", "demo/actors/Demo01.ply", "--label", "mouth-open"],
            ["alone/demo.pt", "demo/models/flame", "--flame DIR"],
        ),
        (
            ["--actor", "demo/actors/Demo01.ply", "--label", "mouth-open", "--dense"],
            ["dense_demo_regional.pt", "--dense FILE"],
        ),
    ],
)
def test_alone_it_names_the_flag_that_helps(elsewhere, arguments, words):
    alone = shutil.copy(elsewhere / "demo/models/demo.pt", touch(elsewhere.parent / "alone" / "demo.pt"))
    arguments = [str(elsewhere / argument) if argument.endswith(".ply") else argument for argument in arguments]
    with pytest.raises(InputError) as caught:
        script("test.py", "--checkpoint", alone, *arguments, "--quiet")
    assert all(word in str(caught.value) for word in words) and not any(Path().iterdir()), caught.value


def test_the_wrong_companion_is_refused_before_anything_is_read(elsewhere):
    from face4d.deca.checkpoints import CHECKPOINT_KIND
    from face4d.deca.config import EncoderConfig
    from face4d.deca.face_model import load_face_model
    from face4d.deca.train import build_network, code_layout
    from face4d.runtime.checkpoint import save_checkpoint

    face = load_face_model("demo")
    layout = code_layout(face)
    network = build_network(layout, EncoderConfig(hidden=16))
    config = {"backbone": "small", "hidden": 16, "image_size": 64}
    identity = {"config": config, "layout": layout.as_dict(), "face_fingerprint": list(face.fingerprint)}
    encoder = elsewhere / "models" / "deca_demo.pt"
    save_checkpoint(
        encoder,
        CHECKPOINT_KIND,
        {**identity, "source": {"face_model": "demo"}, "model": network.state_dict(), "metrics": {}},
    )
    photo = ("--photo", "me.png", "--box", 0, 0, 9, 9, "--label", "mouth-open", "--quiet")
    with pytest.raises(InputError) as caught:
        script("test.py", "--checkpoint", elsewhere / "models/florence.pt", *photo)
    words = [
        "models/florence.pt",
        "FLAME (5023 vertices)",
        "deca_demo.pt",
        "demo head (871",
        "--encoder FILE of FLAME",
        "generator of the demo",
    ]
    assert all(word in str(caught.value) for word in words), caught.value
    # the demo's generator takes that encoder, from the folder above its own
    with pytest.raises(InputError, match="me.png"):
        script("test.py", "--checkpoint", elsewhere / "demo/models/demo.pt", *photo)
    dense = (
        "--actor",
        elsewhere / "demo/actors/Demo01.ply",
        "--label",
        "mouth-open",
        "--dense",
        elsewhere / "demo/models/dense_demo_regional.pt",
    )
    with pytest.raises(
        InputError, match=r"dense_demo.*: expected one for FLAME .*florence.pt .*--dense FILE of FLAME.*demo head \(871"
    ):
        script("test.py", "--checkpoint", elsewhere / "models/florence.pt", *dense)
    script(
        "test.py",
        "--checkpoint",
        elsewhere / "models/florence.pt",
        *dense,
        "--flame",
        elsewhere / "demo/models/flame",
        "--dry-run",
    )
