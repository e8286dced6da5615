"""What the tests say of tests that were skipped."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, WITHOUT_DATA, skipped_in_words


def test_tests_without_data_are_counted_apart():
    reasons = [
        f"Skipped: {WITHOUT_DATA}",
        "needs a CUDA device",
        f"Skipped: {WITHOUT_DATA}",
        "Skipped: there is a GPU",
        "needs a CUDA device",
    ]
    missing, others = skipped_in_words(reasons, Path("place"))
    assert missing.startswith("2 skipped for want of the real data: not in place ")
    assert others == "3 skipped for another reason: 2 needs a CUDA device; 1 there is a GPU"
    assert skipped_in_words([], Path("place")) == []


def test_the_place_of_the_data_is_named_by_the_environment(tmp_path):
    """A file of tests where the data is not: all run but those that need it, and the last lines say how many that
    are."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/test_landmarks.py",
        "-k",
        "reference or angles",
    ]
    environment = {**os.environ, "FACE4D_DATA": str(tmp_path / "nowhere")}
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert result.returncode in (0, 5), result.stdout
    assert f"2 skipped for want of the real data: not in {tmp_path / 'nowhere'} " in result.stdout
    assert "another reason" not in result.stdout
