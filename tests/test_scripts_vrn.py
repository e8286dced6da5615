"""The scripts of the volume network: from a rendered set to a head in a photo, and what they refuse."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from face4d.commands import cli
from face4d.mesh.ply import read_ply
from face4d.vrn.volume_set import open_volume_set

SCRIPTS = Path(__file__).resolve().parents[1] / "Reconstruction"


def run(script: str, *arguments: object) -> int:
    """The exit code of a script, run in this process."""
    main = runpy.run_path(str(SCRIPTS / script))["main"]
    with pytest.raises(SystemExit) as finished:
        cli.run(main, list(map(str, arguments)))
    return finished.value.code


def test_from_rendered_heads_to_a_head_in_a_photo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("vrn_dataset.py", "--rendered", 2, "--held-out", 1, "--output", "set", "--quiet") == 0
    tiny = ["--data", "set", "--width", 0.03, "--epochs", 1, "--batch-size", 2, "--threads", 1, "--quiet"]
    assert run("vrn_train.py", *tiny) == 0
    assert "IoU" in capsys.readouterr().out
    assert run("vrn_train.py", *tiny) == 2  # there already
    assert run("vrn_train.py", *tiny, "--resume") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["kept models/vrn_demo.pt", "kept runs/vrn_demo"]
    assert json.loads((tmp_path / "runs/vrn_demo/metrics.json").read_text())["test/samples"] == 1

    sample = next(open_volume_set("set").samples("testing"))
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        Image.fromarray(sample.image).save(tmp_path / f"photos/{name}.png")
    (tmp_path / "photos/three.jpg").write_bytes(b"no photo")
    np.save(tmp_path / "photos/one.npy", sample.landmarks)
    assert (
        run(
            "vrn_dataset.py",
            "photos",
            "--landmarks",
            "photos",
            "--test-share",
            0.1,
            "--output",
            "own",
            "--quiet",
            "--dry-run",
        )
        == 0
    )
    capsys.readouterr()
    # an untrained network's surface is endless
    monkeypatch.setattr("face4d.vrn.reconstruction.surface", _small_surface)
    assert run("vrn_demo.py", "photos", "--landmarks", "photos", "--quiet") == 0
    told = capsys.readouterr().out
    assert (
        "NME of 1 photo:" in told
        and "left out: photos/two.png" in told
        and "left out: photos/three.jpg" in told.replace("\\", "/")
    )
    assert len(read_ply("Reconstruction_VRN/one/one_mesh.ply")[0]) == 4
    # there already
    assert (
        run("vrn_demo.py", "photos/one.png", "--landmarks", "photos", "--quiet") == 0
        and "kept " in capsys.readouterr().out
    )
    assert run("vrn_demo.py", "photos/one.png", "--landmarks", "photos", "--volume", "--quiet") == 2  # other settings
    # alone, a damaged photo is an error
    assert run("vrn_demo.py", "photos/three.jpg", "--box", 1, 2, 3, 4, "--quiet") == 2


def _small_surface(volume, grid, level=0.5):
    vertices = np.array([[80.0, 80, 0], [110, 80, 0], [80, 110, 0], [90, 90, 20]], np.float32)
    return vertices, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def test_missing_things_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (30, 30)).save("photo.png")
    assert run("vrn_demo.py", "photo.png", "--box", 1, 2, 20, 20) == 2
    assert run("vrn_train.py", "--data", "none") == 2
    assert run("vrn_dataset.py", "none", "--landmarks", ".") == 2
    assert run("vrn_dataset.py", "photo.png", "--landmarks", "nowhere", "--output", "own", "--quiet") == 2
    assert run("vrn_dataset.py", "photo.png", "--landmarks", ".", "--meshes", ".", "--output", "own", "--quiet") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 5 and "vrn_train.py" in lines[0] and "photos that could" not in lines[0]
    assert not (tmp_path / "own" / "dataset.json").exists()
