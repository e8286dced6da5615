"""Work on a cluster: the same results as on this machine, and one line for everything that can be missing."""

import os
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.conversion import convert_tree
from face4d.mesh.obj import write_obj
from face4d.runtime import parallel
from face4d.runtime.incremental import WriteOptions
from face4d.runtime.parallel import as_finished, cluster, map_files
from tests.conftest import REPOSITORY


def _place(item):
    if item == "bad":
        raise InputError("item bad", "a good one", "it")
    return item, os.getpid(), os.getcwd(), Path("here.txt").read_text()


def _patient_place(item):
    time.sleep(0.3)  # long enough that the rest of the work goes to other processes
    return _place(item)


@pytest.fixture(scope="module")
def dask_cluster():
    """Two workers in processes of their own that were started in another folder; the cluster's address."""
    distributed = pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as place:
            place.wait_for_workers(2, timeout=60)
            yield place.scheduler_address


@pytest.fixture
def objects(tmp_path):
    """Two folders of numbered OBJ files."""
    rng = np.random.default_rng(0)
    for folder in ("a/Happy", "b/Rage"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for number in range(5):
            write_obj(
                tmp_path / "in" / folder / f"x_{number}.obj",
                rng.normal(0, 0.1, (12, 3)).round(6),
                np.arange(12).reshape(4, 3),
            )
    return tmp_path / "in"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.ply")}


def test_a_dask_cluster_does_the_work_in_the_callers_folder(dask_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("yes")
    with cluster("dask", dask_cluster) as workers:
        assert workers == 2
        found = list(map_files(_place, range(40), workers=workers, quiet=True))
        assert [item for item, *_ in found] == list(range(40))
        assert {folder for _, _, folder, _ in found} == {str(tmp_path)}
        assert os.getpid() not in {pid for _, pid, *_ in found}
        with pytest.raises(InputError, match="item bad"):
            list(map_files(_place, [1, "bad", 2], workers=workers, quiet=True))
        # the cluster is as good as before
        assert len(list(map_files(_place, range(3), workers=workers, quiet=True))) == 3
    # outside: this machine again
    assert os.getpid() in {pid for _, pid, *_ in map_files(_place, range(3), workers=2, quiet=True)}


def test_processes_that_are_used_again_work_in_the_folder_of_the_caller(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "here.txt").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        found = list(map_files(_patient_place, range(6), workers=2, quiet=True))
        assert {text for *_, text in found} == {name}
        assert len({pid for _, pid, *_ in found}) > 1


def test_dask_writes_the_files_that_loky_writes(dask_cluster, objects, tmp_path, run_script):
    convert_tree(objects, tmp_path / "here", WriteOptions(quiet=True))
    arguments = (
        "convert_obj_to_ply.py",
        "--input",
        "in",
        "--output",
        "there",
        "--quiet",
        "--backend",
        "dask",
        "--scheduler",
        dask_cluster,
    )
    assert "wrote there" in run_script(*arguments, cwd=tmp_path).stdout
    assert len(contents(tmp_path / "there")) == 10 and contents(tmp_path / "there") == contents(tmp_path / "here")
    (objects / "a" / "Happy" / "x_3.obj").write_text("v 0 0")
    broken = run_script(*arguments, "--overwrite", cwd=tmp_path, check=False)
    assert broken.returncode == 2 and broken.stderr.strip().splitlines()[-1].startswith(
        "error: in/a/Happy/x_3.obj:1: expected"
    )
    assert "Traceback" not in broken.stderr


def test_long_items_are_handed_over_one_by_one(dask_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("yes")
    with cluster("dask", dask_cluster) as workers:
        found = dict(as_finished(_place, ["a", "b", "c"], workers=workers))
        assert [found[number][0] for number in range(3)] == ["a", "b", "c"]
        assert os.getpid() not in {pid for _, pid, *_ in found.values()} and {
            folder for _, _, folder, _ in found.values()
        } == {str(tmp_path)}
    found = dict(as_finished(_place, ["a", "b"], workers=2))
    assert [found[number][0] for number in range(2)] == ["a", "b"] and {pid for _, pid, *_ in found.values()} == {
        os.getpid()
    }
    assert list(as_finished(_place, ["a"], workers=1)) == [(0, ("a", os.getpid(), str(tmp_path), "yes"))]
    with pytest.raises(InputError, match="item bad"):
        list(as_finished(_place, ["a", "bad"], workers=2))


def test_a_grid_of_runs_on_a_cluster(dask_cluster, landmark_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.json").write_text('{"loss": ["l1", "l2"], "hidden_size": [4]}')
    main = runpy.run_path(str(REPOSITORY / "main.py"))["main"]
    arguments = [
        "--grid",
        "g.json",
        "--dataset",
        "florence",
        "--landmarks",
        "landmarks",
        "--labels",
        "all",
        "--epochs",
        "2",
        "--select",
        "last",
        "--quiet",
    ]
    main([*arguments, "--backend", "dask", "--scheduler", dask_cluster, "--run", "there"])
    main([*arguments, "--workers", "1", "--run", "here"])
    for name in ("florence_default_l1_0.004_4", "florence_default_l2_0.004_4"):
        there, here = ((tmp_path / "runs" / run / name / "curves.csv").read_text() for run in ("there", "here"))
        assert there == here


def test_without_an_address_dask_and_its_workers_are_started_and_ended(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("yes")
    with cluster("dask", workers=2) as workers:
        pids = {pid for _, pid, *_ in map_files(_place, range(8), workers=workers, quiet=True)}
    assert os.getpid() not in pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="gone: expected this folder on every worker"):
        parallel._in_folder(str(tmp_path / "gone"), _place, 1)


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "_CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(InputError, match="--scheduler: expected a dask scheduler that answers, found tcp://127.0.0.1:1"),
        cluster("dask", "tcp://127.0.0.1:1"),
    ):
        pass
    with pytest.raises(InputError, match="--scheduler: .*nowhere.json"), cluster("dask", "nowhere.json"):
        pass


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_is_named_with_its_pip_line(monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)  # importing it raises ImportError
    with pytest.raises(InputError, match=rf"pip install 'face4d\[{backend}\]'"), cluster(backend):
        pass


def test_contradicting_flags_are_refused():
    with pytest.raises(InputError, match="--backend dask or ray"), cluster("loky", "tcp://127.0.0.1:8786"):
        pass
    with pytest.raises(InputError, match="--workers: expected none"), cluster("dask", "tcp://127.0.0.1:8786", 4):
        pass


def test_on_this_machine_workers_are_the_cores_unless_said():
    with cluster() as workers:
        assert workers == os.cpu_count()
    with cluster(workers=3) as workers:
        assert workers == 3


def test_ray_does_the_same(objects, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # where ray's workers find this test's function
    Path("here.txt").write_text("yes")
    convert_tree(objects, tmp_path / "here", WriteOptions(quiet=True))
    with cluster("ray", workers=2) as workers:
        assert workers == 2
        found = list(map_files(_place, range(20), workers=workers, quiet=True))
        assert [item for item, *_ in found] == list(range(20)) and os.getpid() not in {pid for _, pid, *_ in found}
        with pytest.raises(InputError, match="item bad"):
            list(map_files(_place, [1, "bad", 2], workers=workers, quiet=True))
        assert convert_tree(objects, tmp_path / "there", WriteOptions(workers=workers, quiet=True)) == (10, 0, 0)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
