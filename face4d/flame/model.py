"""FLAME model files: the published pickles (FLAME 2020, FLAME 2023), and the same arrays as a plain npz.

Li et al., "Learning a model of facial shape and expression from 4D scans", SIGGRAPH Asia 2017. Five joints: root, neck, jaw, left eye,
right eye. Lengths in metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from face4d.errors import InputError
from face4d.runtime.atomic import replacing
from face4d.runtime.safe_pickle import load_pickle

JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARENTS = (-1, 0, 1, 1, 1)
NUM_JOINTS = len(JOINTS)
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)  # entries of R - I of all joints but the root
NUM_SHAPE, NUM_EXPRESSION = 300, 100  # of the published files, shape first
MODEL_FILES = ("generic_model.pkl", "generic_model.npz", "flame2023.pkl")  # looked for in a folder, in this order

_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")


@dataclass(frozen=True)
class FlameModel:
    """Arrays of a FLAME model, floating ones in the type of the file.

    Attributes:
        template: (V, 3) metres.
        shape_directions: (V, 3, S) metres per unit coefficient.
        expression_directions: (V, 3, E) metres per unit coefficient.
        pose_directions: (V, 3, 36), times the row-major entries of R - I of neck, jaw, left eye, right eye.
        joint_regressor: (5, V), joints of an unposed face.
        skin_weights: (V, 5), rows sum to 1.
        faces: (F, 3) int32.
    """

    template: np.ndarray
    shape_directions: np.ndarray = field(repr=False)
    expression_directions: np.ndarray = field(repr=False)
    pose_directions: np.ndarray = field(repr=False)
    joint_regressor: np.ndarray = field(repr=False)
    skin_weights: np.ndarray = field(repr=False)
    faces: np.ndarray = field(repr=False)

    @property
    def num_vertices(self) -> int:
        """V."""
        return len(self.template)


def find_model(path: str | Path) -> Path:
    """The model file: ``path`` itself, or the first of ``MODEL_FILES`` in the folder ``path``.

    Raises:
        InputError: neither is there; says where the file comes from.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in MODEL_FILES:
        if (path / name).is_file():
            return path / name
    raise InputError(
        path, f"a FLAME model there, {' or '.join(MODEL_FILES)} (FLAME site, https://flame.is.tue.mpg.de, after registration)", "none"
    )


def load_flame_model(path: str | Path) -> FlameModel:
    """Read a FLAME model.

    Args:
        path: ``generic_model.pkl`` as published (chumpy arrays inside become numpy arrays; nothing in the file is run and chumpy need not
            be installed), an npz of the same arrays (no pickles inside), or a folder with one of ``MODEL_FILES``. ``shapedirs`` has 300
            shape columns, then 100 expression columns; an npz with other numbers says ``num_shape``.

    Raises:
        InputError: no such file, or not a FLAME model: names the array at fault.
    """
    path = find_model(path)
    content = _read_npz(path) if path.suffix.lower() == ".npz" else load_pickle(path)
    if not isinstance(content, Mapping):
        raise InputError(path, f"a FLAME model (arrays {', '.join(_KEYS)})", f"a {type(content).__name__}")
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise InputError(path, f"a FLAME model (arrays {', '.join(_KEYS)})", f"no {', '.join(missing)}")
    return _checked(path, content)


def save_flame_model(path: str | Path, model: FlameModel) -> None:
    """Write a model as the npz that :func:`load_flame_model` reads, under the published names."""
    arrays = {
        "v_template": model.template,
        "shapedirs": np.concatenate([model.shape_directions, model.expression_directions], axis=2),
        "posedirs": model.pose_directions,
        "J_regressor": model.joint_regressor,
        "weights": model.skin_weights,
        "kintree_table": np.array([[parent % 2**32 for parent in PARENTS], range(NUM_JOINTS)]),
        "f": model.faces.astype(np.uint32),
        "num_shape": np.array(model.shape_directions.shape[2]),
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(path, "a FLAME model (.pkl or .npz)", "no such file") from None
    except Exception as error:  # damaged archives raise nearly anything
        raise InputError(path, "a FLAME model (.npz of plain arrays)", f"{error or type(error).__name__}") from None


def _checked(path: Path, content: Mapping[str, Any]) -> FlameModel:
    template = _floats(path, content, "v_template", (None, 3))
    count = len(template)
    directions = _floats(path, content, "shapedirs", (count, 3, None))
    columns = directions.shape[2]
    if "num_shape" in content:
        num_shape = int(np.asarray(content["num_shape"]))
        if not 0 <= num_shape <= columns:
            raise InputError(f"{path}, num_shape", f"0 to {columns}, the columns of shapedirs", f"{num_shape}")
    elif columns == NUM_SHAPE + NUM_EXPRESSION:
        num_shape = NUM_SHAPE
    else:
        wanted = f"{NUM_SHAPE} shape and {NUM_EXPRESSION} expression columns, or an entry num_shape"
        raise InputError(f"{path}, shapedirs", wanted, f"{columns} columns")
    weights = _floats(path, content, "weights", (count, NUM_JOINTS))
    if not np.allclose(weights.sum(axis=1), 1, atol=1e-3):
        raise InputError(f"{path}, weights", "skinning weights that sum to 1 at every vertex", f"a sum of {_farthest(weights.sum(axis=1), 1):.4g}")
    parents = np.asarray(content["kintree_table"])
    if parents.shape != (2, NUM_JOINTS) or parents.dtype.kind not in "iu" or tuple(parents[0, 1:].tolist()) != PARENTS[1:]:
        raise InputError(
            f"{path}, kintree_table", f"the parents of FLAME's joints ({', '.join(JOINTS)}), {PARENTS}", f"{parents[:1].tolist()}"
        )
    faces = np.asarray(content["f"])
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
        raise InputError(f"{path}, f", "triangles (F, 3) of vertex numbers", f"{faces.dtype} {faces.shape}")
    if faces.min() < 0 or faces.max() >= count:
        raise InputError(f"{path}, f", f"vertex numbers 0 to {count - 1}", f"{faces.min()} to {faces.max()}")
    return FlameModel(
        template=template,
        shape_directions=directions[:, :, :num_shape],
        expression_directions=directions[:, :, num_shape:],
        pose_directions=_floats(path, content, "posedirs", (count, 3, NUM_POSE_FEATURES)),
        joint_regressor=_floats(path, content, "J_regressor", (NUM_JOINTS, count)),
        skin_weights=weights,
        faces=faces.astype(np.int32),
    )


def _floats(path: Path, content: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A finite floating array of the wanted shape, None for any length; sparse matrices become dense."""
    value = content[key]
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    fits = array.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, array.shape)) and array.size > 0
    if not fits or array.dtype.kind != "f":
        raise InputError(f"{path}, {key}", f"floating numbers {wanted}", f"{array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{path}, {key}", "finite numbers", "NaN or infinity")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _farthest(values: np.ndarray, target: float) -> float:
    return float(values[np.argmax(np.nan_to_num(np.abs(values - target), nan=np.inf))])
