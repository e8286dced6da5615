"""The benchmark command at tiny size: form of its output, never its times."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "benchmarks" / "run.py", "--tiny", "--threads", "1", "--repeat", "1", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)


def test_table_and_json_of_one_benchmark(tmp_path):
    done = run("--only", "landmarks", "--json", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    assert "| landmarks" in done.stdout and done.stdout.endswith(f"wrote {tmp_path / 'results.json'}\n")
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["kind"] == "comparison" and written["tiny"] is True and written["date"] in done.stdout
    numbers = written["results"]["landmarks"]
    assert numbers["unit"] == "frame"
    for name in ("ours", "baseline", "ratio", "spread", "target", "bound", "ours_peak_mb", "baseline_peak_mb"):
        assert isinstance(numbers[name], float) and numbers[name] > 0, name


def test_scaling_has_three_sizes(tmp_path):
    done = run("--scaling", "--only", "landmarks", "--json", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "results.json").read_text())["results"]["landmarks"]) == {"1", "2", "4"}


def test_unknown_benchmarks_are_refused():
    done = run("--only", "nothing")
    assert done.returncode == 2 and "obj_to_ply" in done.stderr and not done.stdout
