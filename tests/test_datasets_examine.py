"""python -m face4d check: what is odd about a folder is named, what is not is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from face4d.commands.check import main
from face4d.datasets.examine import compared, examine
from face4d.datasets.survey import contents
from face4d.errors import InputError
from face4d.mesh.ply import read_ply, write_ply
from tests.conftest import toy_head, toy_sequence

LABELS, SUBJECTS = ("big_smile", "frown", "yawn"), ("Ada", "Ben", "Cem", "Dot")


def sequence_of(label: int, subject: int) -> np.ndarray:
    """(9, 68, 3) of an own neutral face per subject, the same for all labels."""
    return toy_sequence(label, subject, 9)


@pytest.fixture
def landmarks(tmp_path) -> Path:
    folder = tmp_path / "Marks"
    folder.mkdir()
    for number, label in enumerate(LABELS):
        for who, subject in enumerate(SUBJECTS):
            np.save(folder / f"{label.replace('_', '-')}_{subject}.npy", sequence_of(number, who))
    return folder


@pytest.fixture
def meshes(tmp_path) -> Path:
    folder = tmp_path / "Scans"
    head, faces = toy_head()
    corners = head.reshape(68, 3, 3) - head.reshape(68, 3, 3).mean(axis=1, keepdims=True)
    for number, label in enumerate(LABELS):
        for who, subject in enumerate(SUBJECTS):
            place = folder / subject / label
            place.mkdir(parents=True)
            for frame, points in enumerate(sequence_of(number, who)):
                write_ply(place / f"{label}_{frame:02d}.ply", (points[:, None] + corners).reshape(-1, 3), faces)
    return folder


def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([str(folder), "--quiet"])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("kind", ["landmarks", "meshes"])
def test_a_good_folder_has_nothing_odd(kind, request, capsys):
    folder = request.getfixturevalue(kind)
    code, out = said(folder, capsys)
    assert code == 0 and out.splitlines()[-1] == "odd         nothing", out
    assert "looked at   12 sequences of 108 frames" in out and "subjects    Ada, Ben, Cem, Dot" in out
    main([str(folder)])
    assert f"-m face4d dataset {folder}" in capsys.readouterr().err


def test_odd_landmarks_are_named_each_by_what_it_is(landmarks, capsys):
    still = np.repeat(sequence_of(0, 0)[:1], 9, axis=0)
    np.save(landmarks / "big-smile_Ada.npy", still)
    other = sequence_of(1, 1)
    np.save(landmarks / "frown_Ben.npy", np.concatenate([other[6:], other[:6]]) + np.linspace(0, 0.02, 68)[:, None])
    strong = sequence_of(2, 2)
    np.save(landmarks / "yawn_Cem.npy", strong[:1] + 8 * (strong - strong[:1]))
    (landmarks / "yawn_Dot.npy").unlink()
    code, out = said(landmarks, capsys)
    assert "nothing moves: big-smile of Ada (9 frames)" in out
    assert "frame 0 is not like those of the person's other sequences (not neutral?): frown of Ben (" in out
    assert "moves much more or less than the label does in others: yawn of Cem (" in out
    assert "labels that a subject has not: Dot (yawn)" in out and code == 0


def test_what_cannot_be_used_is_code_2(landmarks, capsys):
    np.save(landmarks / "yawn_Ada.npy", 1000 * sequence_of(2, 0))
    broken = sequence_of(2, 1).copy()
    broken[4, 7, 1] = np.nan
    np.save(landmarks / "yawn_Ben.npy", broken)
    code, out = said(landmarks, capsys)
    assert code == 2 and "millimetres (times 0.001 gives metres): yawn_Ada.npy" in out
    assert "found nan at [4, 7, 1]: yawn_Ben.npy" in out and "looked at   10 sequences" in out
    assert "10 landmark files of 4 subjects and 3 labels" in out and "labels      big-smile, frown, yawn" in out


def test_meshes_with_gaps_and_of_another_topology(meshes, capsys):
    (meshes / "Ada" / "yawn" / "yawn_04.ply").unlink()
    for path in (meshes / "Ben" / "frown").glob("*.ply"):
        path.unlink()
    head, faces = toy_head()
    for frame, points in enumerate(sequence_of(1, 1)):
        vertices = head + (points - points[0]).repeat(3, axis=0)
        write_ply(meshes / "Ben" / "frown" / f"frown_{frame}.ply", vertices, faces[:, ::-1])
    code, out = said(meshes, capsys)
    assert "frame numbers are missing (steps 2 and 3 take --skip-gaps): yawn of Ada (1)" in out
    assert "another topology than most (204 vertices): frown of Ben (204)" in out and code == 0
    write_ply(meshes / "Ben" / "frown" / "frown_5.ply", head[:-3], faces[(faces < len(head) - 3).all(axis=1)])
    code, out = said(meshes, capsys)
    assert code == 2 and "the topology of frown_0.ply (204 vertices, 68 triangles), found 201 vertices, 67" in out


def test_triangles_in_another_order_are_the_same_topology(meshes, capsys):
    """Of one frame, and of whole sequences: step 3 takes them too."""
    for path in (meshes / "Ada" / "yawn" / "yawn_04.ply", *(meshes / "Ben" / "frown").glob("*.ply")):
        vertices, faces = read_ply(path)
        write_ply(path, vertices, np.roll(faces[::-1], 1, axis=1))
    code, out = said(meshes, capsys)
    assert code == 0 and out.splitlines()[-1] == "odd         nothing", out


def test_mirrored_meshes_are_seen_where_an_embedding_lies_beside_them(meshes, capsys):
    faces = np.arange(204).reshape(68, 3)
    np.savez(meshes / "toy.npz", bary=np.full((68, 3), 1 / 3), face_idx=np.arange(68), faces=faces)
    for path in meshes.glob("*/*/*.ply"):
        vertices, _ = read_ply(path)
        mirrored = path.parent == meshes / "Cem" / "frown"
        write_ply(path, vertices * [-1 if mirrored else 1, 1, 1], faces)
    code, out = said(meshes, capsys)
    assert code == 2 and "found a face mirrored left to right: Cem/frown/frown_00.ply" in out
    assert out.count("cannot be used") == 1 and "looked at   11 sequences" in out


def test_processes_see_the_same(meshes, monkeypatch):
    monkeypatch.setattr("face4d.runtime.parallel._ALONE_SECONDS", 0.0)
    alone, _ = examine(meshes, quiet=True)
    shared, _ = examine(meshes, workers=2, quiet=True)
    assert [one.name for one in shared] == [one.name for one in alone] and len(alone) == 12
    assert [one.amplitude for one in shared] == [one.amplitude for one in alone]


def test_a_folder_of_something_else_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        contents(tmp_path / "none")
    (tmp_path / "letters.txt").write_text("a")
    with pytest.raises(InputError, match="landmark files, found neither"):
        main([str(tmp_path)])


def test_everything_is_said_once(landmarks, meshes, capsys, caplog):
    (landmarks / "notes.doc").write_text("a")
    (meshes / "Ada" / "yawn" / "neutral.ply").write_text("a")
    np.save(landmarks / "yawn_Ada.npy", np.repeat(sequence_of(2, 0)[:1], 9, axis=0))
    for folder, odd in ((landmarks, "nothing moves"), (meshes, "passed over")):
        caplog.clear()
        code, out = said(folder, capsys)
        assert code == 0 and (out + caplog.text).count(odd) == 1
        assert caplog.text.count("passed over") == 1


def test_two_files_of_one_name_hinder(landmarks, capsys):
    (landmarks / "again").mkdir()
    np.save(landmarks / "again" / "yawn_Ada.npy", sequence_of(2, 0))
    code, out = said(landmarks, capsys)
    assert code == 2 and "expected one file of yawn, Ada" in out and "labels      big-smile, frown, yawn" in out


def test_one_subject_alone_hinders(landmarks, capsys):
    for path in landmarks.glob("*"):
        if "Ada" not in path.name:
            path.unlink()
    code, out = said(landmarks, capsys)
    assert code == 2 and "hinders" in out and "two subjects or more" in out
    assert list(compared(examine(landmarks, quiet=True)[0])) == []
