"""Reconstruction/*.py as a user runs them."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY

TINY = (
    "--faces",
    4,
    "--held-out",
    2,
    "--image-size",
    32,
    "--hidden",
    8,
    "--batch-size",
    2,
    "--epochs",
    1,
    "--photometric-faces",
    0,
)
SCRIPTS = ("deca.py", "fit.py", "deca_train.py", "generate_dataset.py")


def run(script: str, *arguments: object) -> None:
    runpy.run_path(str(REPOSITORY / "Reconstruction" / script))["main"]([*map(str, arguments), "--quiet"])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a trained encoder and two photos with landmarks."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("deca_train.py", *TINY)
    noise = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name in ("me", "you"):
        Image.fromarray(noise.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(folder / "photos" / f"{name}.png")
        np.save(folder / "photos" / f"{name}.npy", noise.random((68, 2)) * 40 + 10)
    return folder


def test_from_training_to_meshes_and_the_inversion_set(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    assert json.loads((workplace / "runs" / "deca_demo" / "metrics.json").read_text())["test/faces"] == 2
    with Image.open(workplace / "runs" / "deca_demo" / "held_out.png") as preview:
        assert preview.size == (2 * 160, 4 * 160)  # two faces; picture, face over it, neutral face, true one
        rows = np.asarray(preview).reshape(4, 160, 2, 160, 3).transpose(0, 2, 1, 3, 4)  # (row, face, 160, 160, 3)
    # heads on white
    assert (rows[2:] == 255).all(-1).mean() > 0.1 and ((rows[2:] < 250).all(-1).mean((2, 3)) > 0.1).all()
    assert (rows[2] != rows[3]).any()
    run("deca_train.py", *TINY, "--resume")
    assert capsys.readouterr().out.splitlines()[-2:] == ["kept models/deca_demo.pt", "kept runs/deca_demo"]
    run("deca.py", "photos", "--landmarks", "photos", "--texture-size", 32)
    out = capsys.readouterr().out
    assert "NME of 2 photos" in out and out.splitlines()[-1] == "wrote Reconstruction_DECA/you"
    assert (workplace / "Reconstruction_DECA" / "me" / "me_neutral.obj").is_file()
    run(
        "generate_dataset.py",
        "--source",
        "photos/me.png",
        "--targets",
        "photos",
        "--landmarks",
        "photos",
        "--texture-size",
        32,
    )
    assert len(list((workplace / "Inversion_Dataset").glob("me_00?_rendered_images.jpg"))) == 2


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (
            "deca.py",
            ["photos/me.png", "--box", 0, 0, 50, 50, "--checkpoint", "none.tar"],
            ["none.tar", "deca_train.py"],
        ),
        ("deca.py", ["photos/me.png", "--box", 90, 90, 99, 99], ["me.png: expected a face box", "80 x 60"]),
        ("deca.py", ["photos/me.png", "--box", 50, 0, 0, 50], ["me.png: expected a face box", "left < right"]),
        ("deca.py", ["photos/me.png", "--landmarks", "nowhere"], ["nowhere", "landmarks"]),
        (
            "generate_dataset.py",
            ["--source", "photos/me.png", "--targets", "photos", "--box", 90, 90, 99, 99],
            ["me.png: expected a face box"],
        ),
        ("deca.py", ["photos/none.png", "--box", 0, 0, 50, 50], ["none.png"]),
        ("deca.py", ["photos/me.npy", "--box", 0, 0, 50, 50], ["me.npy", "photo"]),
        ("deca.py", ["--video", "photos/me.npy", "--box", 0, 0, 50, 50], ["me.npy", "video"]),
        ("deca.py", ["photos/me.png", "--landmarks", "photos/you.png"], ["you.png", "landmarks"]),
        ("deca.py", ["photos/me.png", "--box", 0, 0, 50, 50, "--flame", "nowhere"], ["nowhere", "FLAME"]),
        ("generate_dataset.py", ["--source", "photos/me.png", "--targets", "models"], ["models", "photos"]),
        ("deca_train.py", ["--flame", "nowhere"], ["nowhere", "FLAME"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(workplace, tmp_path, monkeypatch, script, arguments, words):
    from face4d.errors import InputError

    monkeypatch.chdir(workplace)
    output = [] if script == "deca_train.py" else ["--output", str(tmp_path / "out")]
    with pytest.raises(InputError) as error:
        run(script, *arguments, *output)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), error.value
    assert not (tmp_path / "out").exists()


def test_of_many_photos_the_unusable_are_left_out_and_named(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = (workplace / "photos" / "you.png").read_bytes()
    (folder / "a_good.png").write_bytes(whole)
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (20, 20)).save(folder / "beside.png")  # the box is not in it
    Image.new("LA", (80, 60), (90, 128)).save(folder / "grey_alpha.png")
    box = ("--box", 30, 20, 70, 60)
    run("deca.py", folder, *box, "--output", tmp_path / "out", "--no-meshes")
    out = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_good", "grey_alpha"]
    left_out = [line.split(": expected")[0] for line in out if line.startswith("left out: ")]
    assert left_out == [f"left out: {folder / name}" for name in ("beside.png", "cut.png", "empty.jpg", "text.png")]
    run(
        "generate_dataset.py",
        "--source",
        "photos/me.png",
        "--targets",
        folder,
        *box,
        "--output",
        tmp_path / "set",
        "--texture-size",
        32,
    )
    record = json.loads((tmp_path / "set" / "me_parameters.json").read_text())
    assert [frame["target"] for frame in record["frames"]] == [
        str(folder / "a_good.png"),
        str(folder / "grey_alpha.png"),
    ]
    assert capsys.readouterr().out.count("left out: ") == 4 and len(list((tmp_path / "set").glob("*_mask.jpg"))) == 2


def test_a_file_in_the_way_of_the_output_is_one_line(workplace, tmp_path, monkeypatch, capsys):
    from face4d.commands import cli

    monkeypatch.chdir(workplace)
    (tmp_path / "out").write_text("a file, no folder")
    main = runpy.run_path(str(REPOSITORY / "Reconstruction" / "deca.py"))["main"]
    with pytest.raises(SystemExit) as code:
        cli.run(
            main,
            [
                "photos/me.png",
                "--box",
                "0",
                "0",
                "50",
                "50",
                "--output",
                str(tmp_path / "out"),
                "--no-meshes",
                "--quiet",
            ],
        )
    err = capsys.readouterr().err
    assert (
        code.value.code == 2 and err.startswith("error: ") and str(tmp_path / "out") in err and "Traceback" not in err
    )
    assert (tmp_path / "out").read_text() == "a file, no folder"


def test_results_are_not_replaced_unasked(workplace, tmp_path, monkeypatch, capsys):
    from face4d.errors import InputError

    monkeypatch.chdir(workplace)
    arguments = ("deca.py", "photos/me.png", "--box", 0, 0, 50, 50, "--output", tmp_path / "out", "--no-meshes")
    run(*arguments, "--dry-run")
    assert not (tmp_path / "out").exists()
    run(*arguments)
    run(*arguments)
    assert capsys.readouterr().out.splitlines()[-1] == f"kept {tmp_path / 'out' / 'me'}"
    with pytest.raises(
        InputError, match=r"texture size = 512, not 64.*--overwrite|--overwrite.*texture size = 512, not 64"
    ):
        run(*arguments, "--texture-size", 64)
    run(*arguments, "--texture-size", 64, "--overwrite")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_no_torch_and_has_examples(script, run_script, tmp_path):
    path = REPOSITORY / "Reconstruction" / script
    code = (
        f"import runpy, sys; sys.argv = ['x']; p = runpy.run_path({str(path)!r})['build_parser'](); "
        "print(p.format_help()); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"python Reconstruction/{script}" in out and out.strip().endswith("False")
