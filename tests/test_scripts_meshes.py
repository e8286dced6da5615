"""Steps 1 to 3 as a user runs them: results, resuming, refusing, and one line for every bad input."""

import errno
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.landmarks import DYNAMIC_FILE, STATIC_FILE, TEMPLATE_FILE, extract, load_flame_embedding
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import read_ply, read_ply_vertices, write_ply
from face4d.resample import resample_linear, resample_thesis
from tests.conftest import real_data, toy_head

ROOT = Path(__file__).resolve().parents[1]
V = 204


def run(script: str, *arguments, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess:
    """The script as a process of its own."""
    result = subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert result.returncode == (0 if ok else 2), result.stderr
    assert "Traceback" not in result.stderr
    return result


def call(script: str, *arguments) -> None:
    """The script's ``main`` in this process, one worker."""
    spec = importlib.util.spec_from_file_location(script.removesuffix(".py"), ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([*map(str, arguments), "--workers", "1", "--quiet"])


@pytest.fixture
def faces():
    return toy_head()[1]


@pytest.fixture
def motion():
    """(T, V, 3): frame t is a neutral shape plus t millimetres in x."""
    neutral = toy_head()[0]
    return lambda length: neutral + 1e-3 * np.arange(length)[:, None, None] * np.array([1.0, 0, 0])


@pytest.fixture
def flame(tmp_path, faces, motion):
    rng = np.random.default_rng(7)
    folder = tmp_path / "models" / "flame"
    folder.mkdir(parents=True)
    write_obj(folder / TEMPLATE_FILE, motion(1)[0], faces)
    static = {"lmk_face_idx": np.arange(17, 68), "lmk_b_coords": rng.dirichlet(np.ones(3), 51)}
    dynamic = {"lmk_face_idx": np.tile(np.arange(17), (79, 1)), "lmk_b_coords": rng.dirichlet(np.ones(3), (79, 17))}
    (folder / STATIC_FILE).write_bytes(pickle.dumps(static, protocol=2))
    np.save(folder / DYNAMIC_FILE, np.array(dynamic, dtype=object), allow_pickle=True)
    return folder


@pytest.fixture
def coma(tmp_path, faces, motion):
    """Dataset_FLAME_Aligned_COMA with three subjects, one of them of the thesis' test set, and two labels."""
    root = tmp_path / "Dataset_FLAME_Aligned_COMA"
    for subject, label, length in [
        ("FaceTalk_170725_00137_TA", "mouth_open", 50),
        ("FaceTalk_170725_00137_TA", "bareteeth", 12),
        ("FaceTalk_170912_03278_TA", "mouth_open", 41),
    ]:
        for k, vertices in enumerate(motion(length), 1):
            path = root / "some" / "depth" / subject / label / f"{label}.{k:06d}.ply"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_ply(path, vertices, faces)
    return root


@pytest.fixture
def florence(tmp_path, faces, motion):
    root = tmp_path / "Dataset_FLAME_Aligned"
    for subject in ("CH01", "CH03"):
        for label in ("Cheeky", "Afraid"):
            (root / subject / label).mkdir(parents=True)
            for k, vertices in enumerate(motion(5)):
                write_obj(root / subject / label / f"{label}_{k:02d}.obj", vertices, faces)
    return root


def _state(root: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()}


def names_of_hidden(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob(".*"))


def test_coma_from_meshes_to_landmarks(tmp_path, coma, flame, motion):
    result = run("sampling_coma.py", cwd=tmp_path)
    assert result.stdout.splitlines() == ["123 frames written, 0 unchanged in sampling", "wrote sampling"]
    sampled = tmp_path / "sampling" / "FaceTalk_170725_00137_TA" / "mouth_open"
    assert sorted(p.name for p in sampled.glob("*.ply")) == [f"mouth_open.{k:06d}.ply" for k in range(41)]
    expected = resample_linear(motion(50).astype(np.float32), 41)
    np.testing.assert_allclose(
        [read_ply_vertices(sampled / f"mouth_open.{k:06d}.ply") for k in range(41)], expected, atol=1e-7
    )

    result = run("get_landmark_coma.py", "--plot", "--workers", 1, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "wrote Landmark_dataset_flame_aligned_coma/previews"
    assert "FaceTalk_170913_03279_TA" in result.stderr  # a test subject of the thesis that is not there
    root = tmp_path / "Landmark_dataset_flame_aligned_coma"
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.npy"))
    assert files == [
        "dataset_testing/mouth-open_FaceTalk_170912_03278_TA.npy",
        "dataset_training/bareteeth_FaceTalk_170725_00137_TA.npy",
        "dataset_training/mouth-open_FaceTalk_170725_00137_TA.npy",
    ]
    landmarks = np.load(root / files[2])
    assert landmarks.shape == (41, 68, 3) and landmarks.dtype == np.float32
    np.testing.assert_allclose(landmarks, extract(load_flame_embedding(flame), expected), atol=1e-7)
    assert len(list(root.rglob("*.gif"))) == 3

    before = _state(tmp_path)
    assert "0 frames written, 123 unchanged" in run("sampling_coma.py", cwd=tmp_path).stdout
    assert "0 landmark files written, 3 unchanged" in run("get_landmark_coma.py", cwd=tmp_path).stdout
    assert _state(tmp_path) == before


def test_florence_from_obj_to_landmarks(tmp_path, florence, flame, motion, faces):
    result = run("convert_obj_to_ply.py", cwd=tmp_path)
    assert result.stdout.splitlines() == [
        "20 PLY files written, 0 unchanged in Dataset_FLAME_Aligned",
        "wrote Dataset_FLAME_Aligned",
    ]
    vertices, triangles = read_ply(florence / "CH01" / "Cheeky" / "Cheeky_03.ply")
    np.testing.assert_array_equal(vertices, motion(5)[3].astype(np.float32))
    np.testing.assert_array_equal(triangles, faces)
    result = run("get_animation_landmark_ply.py", cwd=tmp_path)
    root = tmp_path / "Landmark_dataset_flame_aligned"
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*.*")) == [
        "dataset_testing/Cheeky_CH01.npy",
        "dataset_training/Cheeky_CH03.npy",
    ]
    expected = extract(load_flame_embedding(flame), motion(5))
    np.testing.assert_allclose(np.load(root / "dataset_testing/Cheeky_CH01.npy"), expected, atol=2e-8)
    assert "Scream" in result.stderr and "Afraid" not in result.stderr
    call(
        "get_animation_landmark_ply.py",
        "--input",
        florence,
        "--output",
        tmp_path / "all",
        "--flame",
        flame,
        "--labels",
        "all",
    )
    assert len(list((tmp_path / "all").rglob("*.npy"))) == 4


@pytest.mark.parametrize(
    "script", ["convert_obj_to_ply.py", "sampling_coma.py", "get_landmark_coma.py", "get_animation_landmark_ply.py"]
)
def test_bad_input_is_one_line(tmp_path, script):
    result = run(script, "--input", "nowhere", cwd=tmp_path, ok=False)
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: nowhere: expected ") and result.stderr.endswith("found no such folder\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: expected .* found none"):
        call(script, "--input", tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_dry_run_writes_nothing(tmp_path, coma, florence, flame):
    before = _state(tmp_path)
    assert "would write 123 frames" in run("sampling_coma.py", "--dry-run", cwd=tmp_path).stdout
    assert "would write 20 PLY files" in run("convert_obj_to_ply.py", "--dry-run", cwd=tmp_path).stdout
    result = run("get_landmark_coma.py", "--dry-run", "--input", coma, cwd=tmp_path)
    assert "2 training and 1 test sequences: dry run: would write 3 landmark files" in result.stdout
    assert _state(tmp_path) == before


def test_conversion_resumes_and_refuses_what_differs(tmp_path, florence, motion, faces):
    call("convert_obj_to_ply.py", "--input", florence)
    folder = florence / "CH01" / "Cheeky"
    (folder / "Cheeky_02.ply").unlink()  # as if stopped
    os.utime(folder / "Cheeky_03.ply")  # as if copied: same content, other time
    write_obj(folder / "Cheeky_04.obj", motion(9)[8], faces)  # changed input
    before = (folder / "Cheeky_04.ply").read_bytes()
    with pytest.raises(InputError, match="Cheeky_04.ply: .*--overwrite") as error:
        call("convert_obj_to_ply.py", "--input", florence)
    assert "more" not in str(error.value)
    assert (folder / "Cheeky_04.ply").read_bytes() == before and not (folder / "Cheeky_02.ply").exists()
    call("convert_obj_to_ply.py", "--input", florence, "--overwrite")
    np.testing.assert_array_equal(read_ply_vertices(folder / "Cheeky_04.ply"), motion(9)[8].astype(np.float32))
    assert (folder / "Cheeky_02.ply").exists()


def test_conversion_sees_a_cut_file_of_the_right_time_and_overwrite_compares_content(tmp_path, florence, motion, faces):
    call("convert_obj_to_ply.py", "--input", florence)
    folder = florence / "CH01" / "Cheeky"
    whole = (folder / "Cheeky_01.ply").read_bytes()
    stamp = (folder / "Cheeky_01.obj").stat().st_mtime_ns
    for content in (whole[:-7], whole[:50], b""):
        (folder / "Cheeky_01.ply").write_bytes(content)
        os.utime(folder / "Cheeky_01.ply", ns=(stamp, stamp))
        with pytest.raises(InputError, match="Cheeky_01.ply: .*--overwrite"):
            call("convert_obj_to_ply.py", "--input", florence)
        call("convert_obj_to_ply.py", "--input", florence, "--overwrite")
        assert (folder / "Cheeky_01.ply").read_bytes() == whole
    write_obj(folder / "Cheeky_02.obj", motion(9)[8], faces)  # other content, as old as it was
    time = (folder / "Cheeky_02.ply").stat().st_mtime_ns
    os.utime(folder / "Cheeky_02.obj", ns=(time, time))
    kept = (folder / "Cheeky_03.ply").stat().st_ino
    call("convert_obj_to_ply.py", "--input", florence, "--overwrite")
    np.testing.assert_array_equal(read_ply_vertices(folder / "Cheeky_02.ply"), motion(9)[8].astype(np.float32))
    assert (folder / "Cheeky_03.ply").stat().st_ino == kept


def test_two_obj_files_of_one_ply_are_named(tmp_path, florence):
    folder = florence / "CH01" / "Cheeky"
    shutil.copy(folder / "Cheeky_01.obj", folder / "Cheeky_01.OBJ")
    with pytest.raises(
        InputError, match=r"Cheeky_01.obj: expected one OBJ file for Cheeky_01.ply, found also Cheeky_01.OBJ"
    ):
        call("convert_obj_to_ply.py", "--input", florence)
    assert not list(florence.rglob("*.ply"))


def test_numbered_scans_of_different_people_are_converted_each_for_itself(tmp_path, caplog):
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sizes = {f"scan_{number:02d}": number + 5 for number in range(4)}
    for name, size in sizes.items():
        write_obj(folder / f"{name}.obj", rng.normal(0, 0.05, (size, 3)), rng.permutation(size)[:3][None])
    call("convert_obj_to_ply.py", "--input", folder)
    assert {path.stem: len(read_ply_vertices(path)) for path in folder.glob("*.ply")} == sizes
    assert caplog.text.count("converted for itself") == 1


@pytest.mark.parametrize(
    ("script", "source"),
    [
        ("convert_obj_to_ply.py", "florence"),
        ("sampling_coma.py", "coma"),
        ("get_landmark_coma.py", "coma"),
        ("get_animation_landmark_ply.py", "coma"),
    ],
)
def test_an_output_inside_the_input_is_refused_at_once(request, script, source, flame):
    source = request.getfixturevalue(source)
    before = _state(source)
    for inside in (source / "out", source / "deep" / "out"):
        extra = [] if script in ("convert_obj_to_ply.py", "sampling_coma.py") else ["--flame", flame]
        with pytest.raises(InputError, match="outside the input .* found one inside it"):
            call(script, "--input", source, "--output", inside, *extra)
    assert _state(source) == before


def test_a_cut_frame_of_a_sampling_is_seen_and_overwrite_mends_it(tmp_path, coma):
    arguments = "--input", coma, "--output", tmp_path / "out"
    call("sampling_coma.py", *arguments)
    frame = tmp_path / "out" / "FaceTalk_170725_00137_TA" / "mouth_open" / "mouth_open.000030.ply"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:-5])
    with pytest.raises(InputError, match="mouth_open: .*--overwrite"):
        call("sampling_coma.py", *arguments)
    call("sampling_coma.py", *arguments, "--overwrite")
    assert frame.read_bytes() == whole
    frame.write_bytes(whole[:-5] + bytes(5))  # of the right size: only --overwrite reads all of it
    call("sampling_coma.py", *arguments, "--overwrite")
    assert frame.read_bytes() == whole


def test_what_was_stopped_is_not_read_by_the_next_step(tmp_path, coma, flame):
    out = tmp_path / "out"
    call("sampling_coma.py", "--input", coma, "--output", out)
    (out / ".face4d.lock").write_text(
        '{"owner": "python sampling_coma.py (process 1 on there, since then)", "unfinished": true}'
    )
    shutil.rmtree(out / "FaceTalk_170725_00137_TA" / "bareteeth")
    with pytest.raises(InputError, match="python sampling_coma.py .* did not finish .run that again"):
        call("get_landmark_coma.py", "--input", out, "--output", tmp_path / "marks", "--flame", flame)
    call("sampling_coma.py", "--input", coma, "--output", out)
    call("get_landmark_coma.py", "--input", out, "--output", tmp_path / "marks", "--flame", flame)
    assert len(list((tmp_path / "marks").rglob("*.npy"))) == 3


def test_worker_processes_do_the_same(tmp_path, florence, monkeypatch):
    from face4d.mesh.conversion import convert_tree
    from face4d.runtime import parallel
    from face4d.runtime.incremental import WriteOptions

    convert_tree(florence, tmp_path / "one")
    monkeypatch.setattr(parallel, "_ALONE_SECONDS", 0.0)
    assert convert_tree(florence, tmp_path / "two", WriteOptions(workers=2, quiet=True)) == (20, 0, 0)
    assert {k.replace("/two/", "/one/"): v[1] for k, v in _state(tmp_path / "two").items()} == {
        k: v[1] for k, v in _state(tmp_path / "one").items()
    }
    bad = florence / "CH03" / "Cheeky" / "Cheeky_00.obj"
    bad.write_text("v 0 0")
    with pytest.raises(InputError, match="Cheeky_00.obj:1: expected 'v x y z'"):
        convert_tree(florence, tmp_path / "three", WriteOptions(workers=2, quiet=True))


def test_conversion_to_another_tree_of_polygons_and_odd_names(tmp_path):
    (tmp_path / "in" / "a" / "b").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b" / "quad.OBJ").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 5 5 5\nf 1/1/1 2/2/1 3/3/1 4/4/1\n"
    )
    (tmp_path / "in" / "pair1.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\n")
    call("convert_obj_to_ply.py", "--input", tmp_path / "in", "--output", tmp_path / "out")
    vertices, faces = read_ply(tmp_path / "out" / "a" / "b" / "quad.ply")
    assert len(vertices) == 5 and faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert (tmp_path / "out" / "pair1.ply").exists() and not list((tmp_path / "in").rglob("*.ply"))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda t: t[: len(t) // 2], "Cheeky_03.obj"),
        (lambda t: t[: t.rindex("f")], "expected the faces of Cheeky_00.obj"),
    ],
)
def test_truncated_obj_stops_the_conversion_of_that_file_only(tmp_path, florence, cut, message):
    path = florence / "CH01" / "Cheeky" / "Cheeky_03.obj"
    path.write_text(cut(path.read_text()))
    with pytest.raises(InputError, match=message) as error:
        call("convert_obj_to_ply.py", "--input", florence)
    assert str(path) in str(error.value)
    # the mark of what is unfinished
    assert not path.with_suffix(".ply").exists() and names_of_hidden(florence) == [".face4d.lock"]


def test_sampling_settings_and_overwriting(tmp_path, coma, motion):
    out = tmp_path / "out"
    arguments = "--input", coma, "--output", out, "--labels", "mouth-open"
    call("sampling_coma.py", *arguments, "--method", "thesis")
    folder = out / "FaceTalk_170725_00137_TA" / "mouth_open"
    np.testing.assert_allclose(
        read_ply_vertices(folder / "mouth_open.000040.ply"), resample_thesis(motion(50), 41)[40], atol=1e-7
    )
    assert not (out / "FaceTalk_170725_00137_TA" / "bareteeth").exists()
    before = _state(out)
    with pytest.raises(InputError, match=r"mouth_open: .*--overwrite.* \(and 1 more\)"):
        call("sampling_coma.py", *arguments)
    assert _state(out) == before
    call("sampling_coma.py", *arguments, "--frames", 20, "--overwrite")
    assert len(list(folder.glob("*.ply"))) == 20 and len(list(folder.iterdir())) == 21
    np.testing.assert_allclose(read_ply_vertices(folder / "mouth_open.000019.ply"), motion(50)[-1], atol=1e-7)
    assert not list(out.rglob(".*"))


def test_sampling_never_touches_what_it_did_not_write(tmp_path, coma):
    out = tmp_path / "out"
    foreign = out / "FaceTalk_170725_00137_TA" / "mouth_open" / "mouth_open.000000.ply"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    (out / "notes.txt").write_text("mine")
    for flags in ([], ["--overwrite"]):
        with pytest.raises(InputError, match="mouth_open"):
            call("sampling_coma.py", "--input", coma, "--output", out, *flags)
        assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["mouth_open.000000.ply", "notes.txt"]
        assert foreign.read_bytes() == b"mine"
    with pytest.raises(InputError, match="outside the input .*the same folder"):
        call("sampling_coma.py", "--input", coma, "--output", coma)


def test_sampling_continues_where_it_was_stopped(tmp_path, coma):
    out = tmp_path / "out"
    call("sampling_coma.py", "--input", coma, "--output", out)
    kept = out / "FaceTalk_170725_00137_TA" / "bareteeth" / "bareteeth.000000.ply"
    stamp = kept.stat().st_mtime_ns
    shutil.rmtree(out / "FaceTalk_170725_00137_TA" / "mouth_open")
    call("sampling_coma.py", "--input", coma, "--output", out)
    assert len(list(out.rglob("*.ply"))) == 123 and kept.stat().st_mtime_ns == stamp
    for path in coma.rglob("*.ply"):
        os.utime(path)  # a copied data set: other times, same frames
    call("sampling_coma.py", "--input", coma, "--output", out)
    assert kept.stat().st_mtime_ns == stamp


def _corrupt(path: Path, kind: str, faces) -> str:
    if kind == "gap":
        path.unlink()
        return f"{path.parent}: expected frame"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
        return f"{path}: expected .* cut short"
    if kind == "nan":
        data = bytearray(path.read_bytes())
        start = data.index(b"end_header\n") + 11
        data[start : start + 4] = np.float32(np.nan).tobytes()
        path.write_bytes(data)
        return f"{path}: expected finite"
    write_ply(path, np.zeros((V + 1, 3)), faces)
    return f"{path}: expected {V} vertices, found {V + 1}"


@pytest.mark.parametrize("kind", ["gap", "truncated", "nan", "count"])
def test_a_bad_frame_is_named_and_leaves_no_half_sequence(tmp_path, coma, flame, faces, kind):
    bad = coma / "some" / "depth" / "FaceTalk_170725_00137_TA" / "mouth_open" / "mouth_open.000030.ply"
    message = _corrupt(bad, kind, faces)
    with pytest.raises(InputError, match=message):
        call("sampling_coma.py", "--input", coma, "--output", tmp_path / "out")
    assert not (tmp_path / "out" / "FaceTalk_170725_00137_TA" / "mouth_open").exists()
    # the mark of what is unfinished
    assert names_of_hidden(tmp_path / "out") == ([] if kind == "gap" else [".face4d.lock"])
    with pytest.raises(InputError, match=message):
        call("get_landmark_coma.py", "--input", coma, "--output", tmp_path / "marks", "--flame", flame)
    assert not list((tmp_path / "marks").rglob("mouth-open_FaceTalk_170725*")) and names_of_hidden(
        tmp_path / "marks"
    ) in ([], [".face4d.lock"])


def test_landmarks_refuse_another_split_or_angle(tmp_path, coma, flame):
    out = tmp_path / "marks"
    arguments = "--input", coma, "--output", out, "--flame", flame
    call("get_landmark_coma.py", *arguments)
    before = _state(out)
    for change in (["--contour-angle", "20"], ["--test-subjects", "FaceTalk_170725_00137_TA"]):
        with pytest.raises(InputError, match="--overwrite"):
            call("get_landmark_coma.py", *arguments, *change)
        assert _state(out) == before
    call("get_landmark_coma.py", *arguments, "--test-subjects", "FaceTalk_170725_00137_TA", "--overwrite")
    assert len(list((out / "dataset_testing").iterdir())) == 2 and len(list((out / "dataset_training").iterdir())) == 1
    with pytest.raises(
        InputError, match="test subject Nobody, found only FaceTalk_170725_00137_TA, FaceTalk_170912_03278_TA"
    ):
        call("get_landmark_coma.py", *arguments, "--test-subjects", "Nobody")
    with pytest.raises(InputError, match="-39 to 39"):
        call("get_landmark_coma.py", *arguments, "--contour-angle", "60")


def test_missing_flame_file_and_own_topology(tmp_path, coma, flame, faces):
    embedding = load_flame_embedding(flame)
    np.savez(tmp_path / "own.npz", face_idx=embedding.face_idx, bary=embedding.bary, faces=faces)
    (flame / DYNAMIC_FILE).unlink()
    result = run("get_landmark_coma.py", "--input", coma, cwd=tmp_path, ok=False)
    assert f"models/flame/{DYNAMIC_FILE}" in result.stderr and "models/README.md" in result.stderr
    call(
        "get_landmark_coma.py",
        "--input",
        coma,
        "--output",
        tmp_path / "marks",
        "--landmark-embedding",
        tmp_path / "own.npz",
    )
    assert len(list((tmp_path / "marks").rglob("*.npy"))) == 3


def test_obj_sequences_only(florence, flame, tmp_path):
    with pytest.raises(InputError, match="convert_obj_to_ply.py makes them"):
        call("get_animation_landmark_ply.py", "--input", florence, "--flame", flame, "--output", tmp_path / "marks")


def test_full_disk_is_one_line_and_loses_nothing(tmp_path, coma, monkeypatch, capsys):
    from face4d.commands import cli

    real, calls = Path.write_bytes, []

    def full(self, data):
        calls.append(self)
        if len(calls) > 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda argv: call("sampling_coma.py", "--input", coma, "--output", out))
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "mouth_open" in error and "full" in error
    assert len(list(out.rglob("*.ply"))) == 41 and names_of_hidden(out) == [".face4d.lock"]  # the first sequence, whole
    monkeypatch.undo()
    call("sampling_coma.py", "--input", coma, "--output", out)
    assert len(list(out.rglob("*.ply"))) == 123


def test_real_florence_landmarks_from_meshes(tmp_path):
    make, data = real_data("tools/make_sequences.py"), real_data("data")
    for subject in ("CH01", "CH03"):
        command = [
            sys.executable,
            make,
            "--layout",
            "florence",
            "--out",
            tmp_path / "meshes",
            "--subjects",
            subject,
            "--labels",
            "Scream",
        ]
        subprocess.run([*map(str, command)], check=True, capture_output=True)
    call("convert_obj_to_ply.py", "--input", tmp_path / "meshes")
    flame = data / "flame_assets"
    call(
        "get_animation_landmark_ply.py",
        "--input",
        tmp_path / "meshes",
        "--output",
        tmp_path / "marks",
        "--flame",
        flame,
    )
    for name in ("dataset_testing/Scream_CH01.npy", "dataset_training/Scream_CH03.npy"):
        ours, real = np.load(tmp_path / "marks" / name), np.load(data / "landmarks_florence" / name)
        assert 1e3 * np.linalg.norm(ours - real, axis=-1).max() < 0.05  # mm
