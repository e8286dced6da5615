"""One writer per output, what a killed one leaves, and folders that are replaced as a whole."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest

from face4d.errors import InputError
from face4d.runtime import atomic as leftovers
from face4d.runtime import lock
from face4d.runtime.atomic import remove_leftovers, replacing, replacing_folder, temporary_name
from face4d.runtime.incremental import choose_missing, difference, making
from face4d.runtime.lock import require_finished, sole_writer

HOLD = """
import sys, time
from face4d.runtime.lock import sole_writer
with sole_writer(sys.argv[1]) as writing:
    if len(sys.argv) > 2:
        writing.begin()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds the lock of out/, and waits for it; arguments after the folder: it has begun to
    write."""
    started = []

    def start(*more: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "out"), *more], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_second_writer_is_told_who_the_first_is_and_a_killed_one_holds_nothing(tmp_path, holder):
    process, out = holder("begun"), tmp_path / "out"
    with (
        pytest.raises(
            InputError,
            match=rf"out: expected no other run writing here, found python .* \(process {process.pid} on .*, since 20",
        ),
        sole_writer(out),
    ):
        pass
    with pytest.raises(InputError, match=r"is writing \(run that again"):
        require_finished(out / "deeper")
    process.kill()
    process.wait()
    with pytest.raises(InputError, match="did not finish"):
        require_finished(out)
    with sole_writer(out) as writing:
        assert writing.goes_on
        require_finished(out)  # one's own
        (out / "a").write_text("1")
    require_finished(out)
    assert [path.name for path in out.iterdir()] == ["a"]


def test_a_lock_leaves_nothing_where_nothing_was_written(tmp_path):
    with sole_writer(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / ".face4d.lock").exists()
    with pytest.raises(InputError), sole_writer(tmp_path / "a" / "b"):
        raise InputError("x", "y", "z")
    assert list(tmp_path.iterdir()) == []


def test_what_was_begun_and_failed_stays_unfinished_until_it_is_done(tmp_path):
    with pytest.raises(InputError, match="z"), sole_writer(tmp_path) as writing:
        writing.begin()
        raise InputError("x", "y", "z")
    with pytest.raises(InputError), sole_writer(tmp_path):  # refused before it began
        raise InputError("x", "y", "z")
    with pytest.raises(InputError, match="did not finish"):
        require_finished(tmp_path)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"), sole_writer(tmp_path):
        raise KeyboardInterrupt
    with sole_writer(tmp_path) as writing:
        assert writing.goes_on
    require_finished(tmp_path)


def test_runs_of_different_names_share_a_folder(tmp_path):
    with sole_writer(tmp_path, "a"), sole_writer(tmp_path, "b"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".a.lock", ".b.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_where_nothing_can_be_written_nothing_is_locked(tmp_path, monkeypatch, number):
    def closed(path, *arguments):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(lock.os, "open", closed)
    with sole_writer(tmp_path):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def none(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with sole_writer(tmp_path):
        pass
    assert "has no locks" in caplog.text


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_temporaries_of_the_dead_are_removed(tmp_path):
    machine, dead = leftovers._machine(), dead_process()
    alive = temporary_name(tmp_path / "a.npy")
    names = {
        alive.name: True,
        f".b.{dead}-{machine}-0123abcd.new.npy": False,
        # this process writes no such file: one of that number did, before
        f".c.{os.getpid()}-{machine}-0123abcd.new.npy": False,
        f".d.{os.getppid()}-{machine}-0123abcd.new.npy": True,
        f".e.{dead}-ffffff-0123abcd.new.npy": True,  # of another machine, young
        f".f.{dead}-ffffff-0123abcd.new.npy": False,
        ".DS_Store": True,
        ".photo.deadbeef.ply": True,
        f"g.{dead}-{machine}-0123abcd.new.npy": True,
        f".h.{dead}-{machine}-0123abcd.newer": True,
    }
    for place in (tmp_path, tmp_path / "deep" / "er"):
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / name).write_text("x")
        old = next(name for name in names if name.startswith(".f"))
        os.utime(place / old, (time.time() - 2 * 24 * 3600,) * 2)
    (tmp_path / f".i.{dead}-{machine}-0123abcd.new").mkdir()
    (tmp_path / f".i.{dead}-{machine}-0123abcd.new" / "half").write_text("x")
    remove_leftovers(tmp_path)
    kept = sorted(name for name, stays in names.items() if stays)
    assert sorted(path.name for path in (tmp_path / "deep" / "er").iterdir()) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "deep"])


def test_a_folder_moved_aside_by_a_killed_process_comes_back(tmp_path):
    aside = f".x.{dead_process()}-{leftovers._machine()}-0123abcd"
    (tmp_path / f"{aside}.old").mkdir()
    (tmp_path / f"{aside}.old" / "a").write_text("old")
    remove_leftovers(tmp_path)
    assert (tmp_path / "x" / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["x"]
    (tmp_path / f"{aside}.old").mkdir()  # killed after its successor came
    remove_leftovers(tmp_path)
    assert (tmp_path / "x" / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_replaced_folder_keeps_what_others_put_there(tmp_path):
    folder = tmp_path / "x"
    (folder / "sub").mkdir(parents=True)
    for name in ("made", "sub/made", "mine", "sub/mine"):
        (folder / name).write_text(f"old {name}")
    with replacing_folder(folder, {"made", "sub/made"}) as new:
        (new / "made").write_text("new")
        assert (folder / "made").read_text() == "old made"
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {"made": "new", "mine": "old mine", "sub/mine": "old sub/mine"}
    with pytest.raises(InputError, match="mine.*which stays"), replacing_folder(folder, {"made"}) as new:
        (new / "mine").write_text("new")
    assert (folder / "mine").read_text() == "old mine" and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with replacing_folder(tmp_path / "link", ()) as new:
        (new / "a").write_text("1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a").read_text() == "1"


def test_a_record_tells_what_is_whole_and_how_it_was_made(tmp_path):
    settings = {"checkpoint": "c", "frames": None, "export": ["glb"]}
    folder = tmp_path / "x"
    assert choose_missing([(folder, settings)], overwrite=False) == [0]
    with making(folder, settings) as new:
        (new / "sub").mkdir()
        (new / "sub" / "a").write_text("one")
    assert (
        difference(folder, settings, compare=True) is None
        and choose_missing([(folder, settings)], overwrite=True) == []
    )
    assert "without frames" in difference(folder, {**settings, "frames": 5})
    (folder / "sub" / "a").write_text("two")
    assert difference(folder, settings) is None and "another sub/a" in difference(folder, settings, compare=True)
    (folder / "sub" / "a").write_text("longer")
    with pytest.raises(InputError, match="x: .*--overwrite.*another sub/a"):
        choose_missing([(folder, settings)], overwrite=False)
    (folder / "mine").write_text("mine")
    with making(folder, {**settings, "frames": 5}) as new:
        (new / "b").write_text("one")
    assert sorted(path.name for path in folder.iterdir()) == ["b", "made.json", "mine"]
    (folder / "made.json").write_text(json.dumps({"format_version": 1, "settings": {}, "files": {"../../x": [1, "a"]}}))
    assert "without the record" in difference(folder, settings)


def test_temporaries_name_their_owner(tmp_path):
    with replacing(tmp_path / "a.b.npy") as temporary:
        assert (
            temporary.suffix == ".npy" and f".{os.getpid()}-" in temporary.name and temporary.name.startswith(".a.b.")
        )
        temporary.write_text("x")
