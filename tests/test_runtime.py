"""Whole-or-nothing files, checkpoints, pickles, exit codes."""

import errno
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from face4d.commands import cli
from face4d.errors import InputError
from face4d.runtime import atomic
from face4d.runtime.checkpoint import load_checkpoint, save_checkpoint
from face4d.runtime.device import resolve_device
from face4d.runtime.fields import read_json
from face4d.runtime.parallel import map_files
from face4d.runtime.run_folder import RunFolder
from face4d.runtime.safe_pickle import load_npy, load_pickle


def test_importing_the_package_loads_nothing_heavy():
    code = "import face4d, sys; print([m for m in ('torch', 'matplotlib', 'trimesh', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with atomic.replacing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_a_folder_is_written_whole_and_never_replaced(tmp_path):
    with pytest.raises(RuntimeError), atomic.replacing_folder(tmp_path / "x") as temporary:
        (temporary / "a").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic.replacing_folder(tmp_path / "x") as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(FileExistsError), atomic.replacing_folder(tmp_path / "x"):
        pass
    assert (tmp_path / "x" / "a").read_text() == "1"


def test_checkpoints_come_back(tmp_path):
    content = {"config": {"a": 1, "b": [0.5, None]}, "labels": ["x"], "model": {"w": torch.arange(3.0)}}
    save_checkpoint(tmp_path / "c.pt", "generator", content)
    loaded = load_checkpoint(tmp_path / "c.pt", "generator")
    assert loaded["config"] == content["config"] and torch.equal(loaded["model"]["w"], content["model"]["w"])


def test_a_checkpoint_that_does_not_fit_is_one_line_and_leaves_the_old_one(tmp_path):
    """A limit on file sizes stands in for a full disk."""
    code = """
import resource, signal, sys, torch
from face4d.commands import cli
from face4d.runtime.checkpoint import save_checkpoint
save_checkpoint("c.pt", "generator", {"model": {"w": torch.zeros(4)}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
cli.run(lambda argv: save_checkpoint("c.pt", "generator", {"model": {"w": torch.zeros(100_000)}}))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert "c.pt: expected room on the disk" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    assert torch.equal(load_checkpoint(tmp_path / "c.pt", "generator")["model"]["w"], torch.zeros(4))


class Evil:
    def __reduce__(self):
        return print, ("something ran",)


def test_foreign_checkpoints_are_refused(tmp_path, capsys):
    path = tmp_path / "c.pt"
    for content, found in (
        ({"state_dict": {}}, "another program"),
        ({"format": "face4d", "format_version": 1, "kind": "classifier"}, "a classifier checkpoint"),
        ({"format": "face4d", "format_version": 99, "kind": "generator"}, "format 99"),
        (Evil(), "unreadable"),
        (torch.nn.Linear(2, 2), "unreadable"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=found):
            load_checkpoint(path, "generator")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="unreadable"):
        load_checkpoint(path, "generator")
    path.write_text("hello")
    with pytest.raises(InputError, match="unreadable"):
        load_checkpoint(path, "generator")
    with pytest.raises(InputError, match="no such file$"):
        load_checkpoint(tmp_path / "nowhere" / "nothing.pt", "generator")
    (tmp_path / "there.last.pt").touch()
    with pytest.raises(InputError, match=rf"no such file, but {path.name} beside it"):
        load_checkpoint(tmp_path / "nothing.pt", "generator")
    with pytest.raises(InputError, match="a folder"):
        load_checkpoint(tmp_path, "generator")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_arrays_are_read(tmp_path, protocol):
    value = {
        "lmk_face_idx": np.arange(5),
        "lmk_b_coords": np.random.default_rng(0).random((5, 3)),
        "n": np.float64(3.5),
        "t": (1, "a"),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    loaded = load_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(loaded["lmk_b_coords"], value["lmk_b_coords"])
    assert loaded["n"] == 3.5 and loaded["t"] == (1, "a")


def test_pickles_of_anything_else_are_refused_and_run_nothing(tmp_path, capsys):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(InputError, match="builtins.print"):
        load_pickle(tmp_path / "a.pkl")
    np.save(tmp_path / "a.npy", np.array({"a": Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="builtins.print"):
        load_npy(tmp_path / "a.npy")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(np.arange(100))[:40])
    with pytest.raises(InputError, match="a pickle of numpy arrays only"):
        load_pickle(tmp_path / "b.pkl")
    assert capsys.readouterr().out == ""


def test_npy_files_with_and_without_objects(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"x": np.arange(3)}, dtype=object), allow_pickle=True)
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy")["x"], [0, 1, 2])
    np.save(tmp_path / "b.npy", np.arange(4.0))
    np.testing.assert_array_equal(load_npy(tmp_path / "b.npy"), [0, 1, 2, 3])
    (tmp_path / "c.npy").write_text("no")
    with pytest.raises(InputError, match="a .npy file"):
        load_npy(tmp_path / "c.npy")


def exit_of(error: BaseException, capsys) -> tuple[int, str]:
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as leaving:
        cli.run(main, [])
    return leaving.value.code, capsys.readouterr().err


def test_bad_input_is_one_line_and_exit_code_two(capsys):
    code, text = exit_of(InputError("a/b.ply", "1 vertex", "none\nat all"), capsys)
    assert (code, text) == (2, "error: a/b.ply: expected 1 vertex, found none at all\n")


def test_full_disk_is_one_line(capsys):
    code, text = exit_of(OSError(errno.ENOSPC, "No space left on device", "out/x.npy"), capsys)
    assert code == 2 and text.count("\n") == 1 and "out/x.npy" in text and "full" in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("30 requested and 10 written"), ["room on the disk", "10 of 30"]),  # numpy's tofile: no error number
        (OSError(errno.EIO, "Input/output error", "in/x.ply"), ["in/x.ply", "Input/output error"]),
        (OSError(errno.EMFILE, "Too many open files", b"in/y.ply"), ["in/y.ply", "Too many open files"]),
        (OSError(errno.ESTALE, "Stale file handle", 7), ["7", "Stale"]),
        (OSError("what a library says"), ["what a library says"]),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "gone.npy"), ["gone.npy", "No such file"]),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            ["connection: expected an answer", "refused"],
        ),
        (TimeoutError(), ["expected an answer"]),
        (MemoryError(), ["expected room"]),
        (MemoryError("Unable to allocate 8 TiB"), ["expected room", "8 TiB"]),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.\nadvice"
            ),
            ["expected room"],
        ),
        (UnicodeEncodeError("ascii", "caf\xe9", 3, 4, "ordinal not in range(128)"), ["caf", "ascii", "character 4"]),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), ["utf-8", "invalid start byte"]),
        (ModuleNotFoundError("No module named 'trimesh'", name="trimesh"), ["requirements.txt", "no trimesh"]),
        (InputError("a\x1b[31m\u202eb.ply", "x\ny", "z\x00"), [r"a\x1b[31m\u202eb.ply", "x y", r"z\x00"]),
    ],
)
def test_what_the_system_refuses_is_one_printable_line(error, words, capsys):
    code, text = exit_of(error, capsys)
    assert code == 2 and text.startswith("error: ") and text.count("\n") == 1 and text[:-1].isprintable(), text
    assert all(word in text for word in words), text


def test_other_runtime_errors_are_defects():
    with pytest.raises(RuntimeError, match="shapes"):
        cli.run(lambda argv: (_ for _ in ()).throw(RuntimeError("shapes do not match")), [])


def test_names_that_are_no_text_are_printed_and_recorded(tmp_path):
    """A file name of Latin-1 bytes in a UTF-8 terminal."""
    code = """
import os, sys
from face4d.commands import cli
from face4d.runtime import atomic
name = os.fsdecode(b"caf\\xe9")
def main(argv):
    atomic.write_json("record.json", {"path": name})
    cli.report_written([name])
cli.run(main)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "wrote caf\\udce9\n", "")
    assert read_json(tmp_path / "record.json")["path"] == "caf\udce9"


def complaint(capsys, *words: str) -> str:
    """What a parser with a few flags has against ``words``."""
    parser = cli.parser("A script.")
    parser.add_argument("--hidden-size", type=int)
    parser.add_argument("--label", choices=("Happy", "Rage"), required=True)
    with pytest.raises(SystemExit) as left:
        parser.parse_args(words)
    text = capsys.readouterr().err
    assert left.value.code == 2 and text.count("\n") == 1 and "--help" in text
    return text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--hiden-size", "3"],
            "--hiden-size: expected a flag that exists, found none of that name; the nearest is --hidden-size",
        ),
        (
            ["--hidden_size=3"],
            "--hidden_size: expected a flag that exists, found none of that name; the nearest is --hidden-size",
        ),
        (["-label", "Happy"], "-label: expected a flag that exists, found none of that name; the nearest is --label"),
        (["--label", "happy"], "--label: expected Happy or Rage, found happy; the nearest is Happy"),
        (["--label", "Rage", "--hidden-size", "x\x1b"], r"--hidden-size: expected a whole number, found x\x1b"),
        (["--label"], "--label: expected a value after it, found none"),
        ([], "--label: expected a value, found none"),
        (["--label", "Rage", "Happy"], "Happy: expected a flag before it, found none"),
    ],
)
def test_wrong_flags_are_one_line_with_the_nearest_right_one(words, line, capsys):
    assert complaint(capsys, *words).startswith(f"error: {line} (")


def test_under_torchrun_the_line_tells_of_its_dashes_once(capsys, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", "0")
    assert "torchrun ... -- SCRIPT FLAGS" in complaint(capsys, "--label", "Rage", "florence")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as left:
        cli.parser("A script.").parse_args(["florence"])
    assert left.value.code == 2 and capsys.readouterr().err == ""


def test_interruption_and_defects(capsys):
    assert exit_of(KeyboardInterrupt(), capsys)[0] == 130
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda argv: 1 // 0, [])


def test_a_log_line_is_printable(capsys):
    def main(argv):
        logging.getLogger("face4d.x").warning("note: %s", "a\x1b[2Jb")

    handlers, logging.root.handlers = logging.root.handlers, []
    try:
        with pytest.raises(SystemExit):
            cli.run(main, [])
    finally:
        logging.root.handlers = handlers
    assert capsys.readouterr().err == "note: a\\x1b[2Jb\n"


def test_overwriting_needs_the_flag(tmp_path):
    cli.refuse_overwrite(tmp_path / "new", overwrite=False)
    cli.refuse_overwrite(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="--overwrite"):
        cli.refuse_overwrite(tmp_path, overwrite=False)


def _square(value: int) -> int:
    if value == 99:
        raise InputError("item 99", "another", "it")
    return value * value


@pytest.mark.parametrize("workers", [1, 2])
def test_map_files_keeps_order_and_passes_errors_on(workers):
    assert list(map_files(_square, range(20), workers=workers, quiet=True)) == [k * k for k in range(20)]
    with pytest.raises(InputError, match="item 99"):
        list(map_files(_square, [1, 99, 2], workers=workers, quiet=True))


def test_run_folder_reads_back_what_it_wrote(tmp_path):
    run = RunFolder(tmp_path / "r")
    run.write_config({"lr": 0.1})
    config = read_json(run.path / "config.json")
    assert config["lr"] == 0.1 and config["versions"]["numpy"] == np.__version__
    (tmp_path / "r" / "bad.json").write_text("{")
    with pytest.raises(InputError, match="a JSON file"):
        read_json(tmp_path / "r" / "bad.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_asking_for_cuda_where_there_is_none_is_an_input_error():
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(InputError, match="--device cuda"):
        resolve_device("cuda")


def test_bad_input_is_one_printable_line_whatever_the_file_held():
    error = InputError("a.ply", "rows of element \x1b[31mred", "line one\nline two\x85 \udcff" + "9" * 100000)
    assert str(error).isprintable() and str(error).startswith(
        "a.ply: expected rows of element \\x1b[31mred, found line one line two"
    )
    assert len(str(error)) < 400
    assert str(InputError("Ångström.obj", "größer", "日本")) == "Ångström.obj: expected größer, found 日本"
