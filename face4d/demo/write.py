"""The demo data set: how its expressions unfold in time, and the folders of CoMA, Florence 4D and FLAME filled with it.

The layout below the root:

    Dataset_FLAME_Aligned_COMA/<subject>/<label>/<label>.000001.ply ...   neutral, apex, neutral; 24..60 frames
    Dataset_FLAME_Aligned/<subject>/<Label>/<Label>_00.obj ...            61 frames
    models/flame/                    template.obj, the two landmark embeddings, the head as a FLAME model
    actors/<subject>.ply             neutral meshes
    demo.json                        options and counts, written last: without it the demo is not complete
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import COMA_LABELS, FLORENCE_FRAMES, FLORENCE_LABELS
from face4d.demo.expressions import ACTION_UNITS, deform, weights_of
from face4d.demo.flame import demo_embedding, demo_flame_model
from face4d.demo.head import DemoHead, demo_head, identity_weights
from face4d.errors import InputError
from face4d.flame.model import save_flame_model
from face4d.landmarks import flame_embedding_files
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import ply_bytes, write_ply
from face4d.runtime.atomic import forget, temporary_name, write_json
from face4d.runtime.fields import integer, list_of, read_json, record, text, unknown
from face4d.runtime.fields import name as safe_name
from face4d.runtime.lock import sole_writer
from face4d.runtime.progress import track

__all__ = [
    "DEFAULT_FLORENCE_LABELS",
    "DEFAULT_FLORENCE_SUBJECTS",
    "DemoSummary",
    "coma_length",
    "demo_sequence",
    "demo_subjects",
    "sequence_weights",
    "write_demo",
]

_BLINK = ACTION_UNITS.index("lid_close")
_SHORTEST, _LONGEST = 24, 60


def coma_length(seed: int, subject: int, label: str) -> int:
    """Frames of a CoMA-shaped sequence: 24..60, about 41 on average."""
    return int(_generator(seed, subject, label, 1).integers(_SHORTEST, _LONGEST - 1))


def sequence_weights(seed: int, subject: int, label: str, frames: int) -> np.ndarray:
    """Action unit weights (T, 2, A) of one sequence; frame 0 is exactly neutral, the last nearly.

    Every unit rises and falls on its own slightly shifted curve; the apex comes at 36..60 % of the time, is held
    for a while, and reaches 0.85..1.15 of the label's weights. A person's two sides differ by a few percent,
    small tremor rides on what moves, and now and then an eye blinks.
    """
    person = np.random.default_rng([seed, 202, subject])
    sides = 1 + 0.06 * np.clip(person.standard_normal((2, len(ACTION_UNITS))), -2, 2)
    habit = 1 + 0.08 * np.clip(person.standard_normal(len(ACTION_UNITS)), -2, 2)
    draw = _generator(seed, subject, label, 2)
    strength = draw.uniform(0.85, 1.15)
    apex = draw.uniform(0.36, 0.60)
    hold = draw.uniform(0.12, 0.24)
    start = draw.uniform(0.0, 0.10)
    rest = draw.uniform(0.0, 0.03)
    lag = draw.uniform(-0.03, 0.03, len(ACTION_UNITS))
    time = np.linspace(0, 1, frames)[:, None]
    rise_from, rise_to = np.maximum(start + lag, 0), np.maximum(apex - hold / 2 + lag, 0.08)
    fall_from, fall_to = apex + hold / 2 + lag, np.minimum(0.97 + lag, 1.0)
    curve = _ease((time - rise_from) / (rise_to - rise_from)) * (
        1 - (1 - rest) * _ease((time - fall_from) / (fall_to - fall_from))
    )
    curve[0] = 0
    tremor = np.cumsum(draw.standard_normal((frames, 2, len(ACTION_UNITS))), axis=0)
    tremor = 0.012 * (tremor - np.linspace(0, 1, frames)[:, None, None] * tremor[-1])
    apex_weights = weights_of(label) * strength * habit * sides
    weights = apex_weights * (curve[:, None] + tremor * curve[:, None])
    if draw.uniform() < 0.45 and frames >= 20:
        weights[:, :, _BLINK] = np.maximum(weights[:, :, _BLINK], _blink(frames, draw.uniform(0.1, 0.9))[:, None])
    weights[0] = 0
    return weights


def _blink(frames: int, middle: float) -> np.ndarray:
    distance = np.abs(np.arange(frames) - middle * (frames - 1))
    return np.clip(1.2 - distance / 2.6, 0, 1)


def _ease(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * t * (t * (6 * t - 15) + 10)


def _generator(seed: int, subject: int, label: str, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, 303, purpose, subject, *label.replace("-", "_").encode()])


logger = logging.getLogger(__name__)

MARKER = "demo.json"
FORMAT_VERSION = 2
_MARKER_FIELDS = record(  # the files of a plan are removed when another demo takes its place
    {
        "format_version": integer(1, FORMAT_VERSION),
        "seed": integer(-(2**63), 2**63 - 1),
        "subjects": integer(1, 1000),
        "coma_labels": list_of(safe_name, 0, 100),
        "florence_labels": list_of(safe_name, 0, 100),
        "florence_subjects": list_of(safe_name, 0, 1000),
        "level": integer(0, 10),
        "geometry": text,
    },
    "the marker of a demo of this version (remove the folder)",
    others=unknown,
)
_FLAME_FILES = ("template.obj", "flame_static_embedding.pkl", "flame_dynamic_embedding.npy", "generic_model.npz")
DEFAULT_FLORENCE_LABELS = ("Happy", "Kissy", "Scream")
DEFAULT_FLORENCE_SUBJECTS = ("Demo01", "Demo06")


@dataclass(frozen=True)
class DemoSummary:
    """What `write_demo` left behind."""

    root: Path
    already_there: bool
    meshes: int
    bytes: int


@dataclass(frozen=True)
class _Plan:
    seed: int
    subjects: int
    coma_labels: tuple[str, ...]
    florence_labels: tuple[str, ...]
    florence_subjects: tuple[str, ...]
    level: int
    geometry: str  # of the head and its expressions; another version of this program makes other data

    def files(self) -> Iterator[str]:
        """Every path below the root, in the order of writing."""
        names = demo_subjects(self.subjects)
        yield from (f"models/flame/{name}" for name in _FLAME_FILES)
        yield from (f"actors/{subject}.ply" for subject in names)
        for number, subject in enumerate(names):
            for label in self.coma_labels:
                for frame in range(coma_length(self.seed, number, label)):
                    yield f"Dataset_FLAME_Aligned_COMA/{subject}/{label}/{label}.{frame + 1:06d}.ply"
        for name in self.florence_subjects:
            for label in self.florence_labels:
                yield from (
                    f"Dataset_FLAME_Aligned/{name}/{label}/{label}_{frame:02d}.obj" for frame in range(FLORENCE_FRAMES)
                )


def demo_subjects(count: int) -> tuple[str, ...]:
    """Demo01, Demo02, ..."""
    return tuple(f"Demo{number + 1:02d}" for number in range(count))


def demo_sequence(head: DemoHead, seed: int, subject: int, label: str, frames: int) -> np.ndarray:
    """Vertices (T, V, 3) in metres of subject number 0, 1, ... performing a label; frame 0 is the subject's neutral."""
    neutral = head.neutral(identity_weights(seed, subject))
    return np.stack([deform(head, neutral, weights) for weights in sequence_weights(seed, subject, label, frames)])


def write_demo(
    root: str | Path,
    *,
    seed: int = 27,
    subjects: int = 6,
    coma_labels: Sequence[str] | None = None,
    florence_labels: Sequence[str] = DEFAULT_FLORENCE_LABELS,
    florence_subjects: Sequence[str] = DEFAULT_FLORENCE_SUBJECTS,
    level: int = 0,
    overwrite: bool = False,
    quiet: bool = True,
) -> DemoSummary:
    """Write the demo data set below ``root``; see the module for the layout.

    Everything is made in a hidden folder of ``root`` and moved to its place at the end, the marker file last. A
    complete demo with the same options is left as it is; one that was stopped is made anew.

    Args:
        subjects: number of people, Demo01, Demo02, ...
        coma_labels: labels of the CoMA-shaped part in either spelling, Florence 4D's too; CoMA's twelve by default.
        florence_labels, florence_subjects: what the Florence-shaped part holds; subjects beyond ``subjects`` are left
            out.
        level: detail of the head, see :func:`face4d.demo.head.demo_head`.
        overwrite: replace a demo made with other options; other files below ``root`` are never touched.
        quiet: no progress bar.

    Raises:
        InputError: unknown labels; files of another demo, and no ``overwrite``; another command that writes there.
    """
    root = Path(root)
    names = demo_subjects(subjects)
    plan = _Plan(
        seed, subjects,
        tuple(
            _known(label, (*COMA_LABELS, *FLORENCE_LABELS)).replace("-", "_")
            for label in (COMA_LABELS if coma_labels is None else coma_labels)
        ),
        tuple(_known(label, FLORENCE_LABELS) for label in florence_labels),
        tuple(name for name in florence_subjects if name in names), level, _geometry(level),
    )  # fmt: skip
    with sole_writer(root) as writing:
        old = _read_marker(root)
        if old == plan and not overwrite and not writing.goes_on:
            return _summary(root, plan, already_there=True)
        in_the_way = [path for path in plan.files() if (root / path).exists()]
        if (in_the_way or old is not None) and not (overwrite or writing.goes_on):
            found = in_the_way[0] if old is None else "one made with other options or by another version"
            raise InputError(
                root, "no demo, or one made with the same options (remove the folder, or --overwrite)", found
            )
        staging = temporary_name(root / "making", is_folder=True)
        staging.mkdir()
        try:
            _write_all(staging, plan, quiet)
            writing.begin()
            _move_in(staging, root, plan, old)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            forget(staging)
        write_json(root / MARKER, {"format_version": FORMAT_VERSION, **asdict(plan)})
    logger.debug("wrote the demo below %s", root)
    return _summary(root, plan, already_there=False)


def _geometry(level: int) -> str:
    """A short digest of the people and what they can do, to a tenth of a micrometre."""
    head = demo_head(level)
    strong = np.stack([deform(head, head.mean, weights_of(label)) for label in (*COMA_LABELS, *FLORENCE_LABELS)])
    digest = hashlib.sha256(head.faces.tobytes())
    for part in (head.mean, head.modes, strong):
        digest.update(np.rint(part * 1e7).astype(np.int64).tobytes())
    return digest.hexdigest()[:16]


def _known(label: str, labels: Sequence[str]) -> str:
    for known in labels:
        if label.replace("_", "-") == known.replace("_", "-"):
            return known
    raise InputError(label, f"one of the labels {', '.join(labels)}", "another")


def _write_all(folder: Path, plan: _Plan, quiet: bool) -> None:
    head = demo_head(plan.level)
    flame = folder / "models" / "flame"
    flame.mkdir(parents=True)
    write_obj(flame / "template.obj", head.mean, head.faces)
    for name, content in flame_embedding_files(demo_embedding(plan.level)).items():
        (flame / name).write_bytes(content)
    save_flame_model(flame / "generic_model.npz", demo_flame_model(plan.level))
    names = demo_subjects(plan.subjects)
    for number, subject in enumerate(names):
        write_ply(folder / "actors" / f"{subject}.ply", head.neutral(identity_weights(plan.seed, number)), head.faces)
    jobs = [("coma", name, label) for name in names for label in plan.coma_labels]
    jobs += [("florence", name, label) for name in plan.florence_subjects for label in plan.florence_labels]
    face_lines = "f %d %d %d\n" * len(head.faces) % tuple((head.faces + 1).ravel())
    for shape, name, label in track("demo", jobs, unit="sequence", quiet=quiet):
        who = names.index(name)
        if shape == "coma":
            target = folder / "Dataset_FLAME_Aligned_COMA" / name / label
            target.mkdir(parents=True)
            for number, vertices in enumerate(
                demo_sequence(head, plan.seed, who, label, coma_length(plan.seed, who, label))
            ):
                (target / f"{label}.{number + 1:06d}.ply").write_bytes(ply_bytes(vertices, head.faces))
        else:
            target = folder / "Dataset_FLAME_Aligned" / name / label
            target.mkdir(parents=True)
            for number, vertices in enumerate(demo_sequence(head, plan.seed, who, label, FLORENCE_FRAMES)):
                text = "v %.6f %.6f %.6f\n" * len(vertices) % tuple((vertices.ravel() + 0.0).tolist())
                (target / f"{label}_{number:02d}.obj").write_bytes((text + face_lines).encode("ascii"))


def _move_in(staging: Path, root: Path, plan: _Plan, old: _Plan | None) -> None:
    if old is not None:
        for path in old.files():
            (root / path).unlink(missing_ok=True)
    for path in plan.files():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / path, target)
    if old is not None:
        _remove_empty_folders(root, old)


def _remove_empty_folders(root: Path, old: _Plan) -> None:
    folders = {parent for path in old.files() for parent in Path(path).parents if parent != Path(".")}
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()


def _read_marker(root: Path) -> _Plan | None:
    """The plan of a complete demo below root, None where there is none."""
    if not (root / MARKER).exists():
        return None
    content = read_json(root / MARKER, _MARKER_FIELDS, "the marker of a demo of this version (remove the folder)")
    version = content.pop("format_version")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    plan = _Plan(**fields)
    return plan if version == FORMAT_VERSION else None


def _summary(root: Path, plan: _Plan, *, already_there: bool) -> DemoSummary:
    sizes = [(root / path).stat().st_size for path in plan.files() if (root / path).exists()]
    return DemoSummary(root, already_there, len(sizes) - len(_FLAME_FILES) + 1, sum(sizes))
