"""The page of moving heads: everything it shows as JSON, and the HTML, styles and scripts that play it."""

from __future__ import annotations

import importlib.util
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from face4d.demo.detail import BACK, BEHIND, FinerHead
from face4d.errors import InputError
from face4d.evaluation.results import Key
from face4d.view.looks import ShownHead, byte_colours, drawn_finer, own_colours, shown_head
from face4d.view.page_codec import Surface, encode_surfaces, pack, packed_bytes
from face4d.view.page_heads import Motion, Surfaces, TestMotions
from face4d.view.page_steered import pack_network, surface_map, typical_motions
from face4d.view.report import Top

__all__ = ["PAGE_BUDGET", "describe", "heads_top", "three_js"]

PAGE_BUDGET = 9_000_000  # bytes of text for the motions of all test sets, of the 15 MB of a page
_LEAST_BUDGET = 1_000_000  # for the components of a test set, however much the rest takes
LANDMARK_STEP = 1e-5  # metres that landmarks and neutral heads are rounded to
FPS = 25  # of sequences; data sets do not say

_VIEWER = Path("resources", "templates", "viewer.zip")  # in trimesh, with three.js in it
_LIBRARY = re.compile(r'/\*\*\s+\* @license.*?Three\.js Authors.*?"__esModule",\{value:!0\}\)\}\)\);', re.DOTALL)
_SCRIPTS = ("data.js", "network.js", "scene.js", "glb.js", "plot.js", "app.js")


def three_js() -> str:
    """The text of three.js, with the notice of its licence, from the viewer that trimesh brings along.

    Raises:
        InputError: trimesh is not installed, or another one that has no viewer.
    """
    spec = importlib.util.find_spec("trimesh")
    place = Path(spec.origin).parent / _VIEWER if spec and spec.origin else _VIEWER
    expected = "the viewer of trimesh with three.js in it (pip install trimesh==5.2.0)"
    try:
        with zipfile.ZipFile(place) as archive:
            texts = [archive.read(name).decode("utf-8") for name in archive.namelist() if "viewer" in name]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(place, expected, str(error)) from None
    found = next((match for text in texts if (match := _LIBRARY.search(text))), None)
    if found is None:
        raise InputError(place, expected, "another layout")
    return found[0]


def describe(sets: Sequence[TestMotions], budget: int = PAGE_BUDGET) -> dict[str, Any]:
    """All motions as the JSON that web/data.js reads.

    Args:
        sets: test sets, at least one motion each.
        budget: bytes for all; surfaces are rounded so far that they fit, and what that costs is said.
    """
    shares = budget // max(1, len(sets))
    return {"fps": FPS, "sets": [_described(one, shares) for one in sets], "notes": [n for s in sets for n in s.notes]}


def _described(one: TestMotions, budget: int) -> dict[str, Any]:
    labels = sorted({motion.label for motion in one.motions})
    subjects = sorted({motion.subject for motion in one.motions})
    found: dict[str, Any] = {
        "name": one.name,
        "labels": labels,
        "subjects": subjects,
        "frames": max(len(motion.landmarks) for motion in one.motions),
        "methods": _methods(one.motions, labels, subjects),
        "steered": {name: pack_network(generator) for name, generator in one.steered.items()},
        "neutrals": _by_key(labels, subjects, one.neutrals),
    }
    if one.surfaces is not None:
        landmarks = packed_bytes(found["methods"])  # weights take about as much again
        _add_surfaces(
            found, one, one.surfaces, max(budget - 2 * landmarks - packed_bytes(found["steered"]), _LEAST_BUDGET)
        )
    found["bytes"] = packed_bytes(found)
    return found


def _by_key(labels: Sequence[str], subjects: Sequence[str], values: Mapping[Key, np.ndarray]) -> dict[str, Any]:
    """Arrays of single sequences as one, and which row is whose: "label subject", numbers in their lists."""
    rows = {f"{labels.index(label)} {subjects.index(subject)}": row for row, (label, subject) in enumerate(values)}
    return {"rows": rows, "points": pack(np.stack(list(values.values())), LANDMARK_STEP)}


def _methods(motions: Sequence[Motion], labels: Sequence[str], subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Per method: which label, subject and sample each motion is, how many frames it has and whether a surface, and the
    landmarks of all motions behind one another.
    """
    methods: dict[str, list[Motion]] = {}
    for motion in motions:
        methods.setdefault(motion.method, []).append(motion)
    return [
        {
            "name": name,
            "motions": [
                [
                    labels.index(one.label),
                    subjects.index(one.subject),
                    one.sample,
                    len(one.landmarks),
                    int(one.surface is not None),
                ]
                for one in own
            ],
            "landmarks": pack(np.concatenate([one.landmarks for one in own]), LANDMARK_STEP, delta=True),
        }
        for name, own in methods.items()
    ]


def _add_surfaces(found: dict[str, Any], one: TestMotions, surfaces: Surfaces, budget: int) -> None:
    """Add heads, components, and the weights of every motion that has a surface."""
    subjects, faces = found["subjects"], surfaces.decoder.embedding.faces  # of the data; the demo head is drawn finer
    first: dict[str, Key] = {}  # the sequence whose neutral face is the head of its subject
    for key in surfaces.heads:
        first.setdefault(key[1], key)
    finer = drawn_finer(surfaces.decoder.embedding.num_vertices, faces)
    looks = {subject: _look(surfaces, key) for subject, key in first.items()}
    # as the page reads them, so that their rounding is no error
    heads = {subject: np.rint(look.neutral / LANDMARK_STEP) * LANDMARK_STEP for subject, look in looks.items()}

    def from_head(frames: np.ndarray, subject: str) -> np.ndarray:
        """Displacements of what is drawn from the head of the page; the page itself holds teeth back."""
        return (finer.carry(frames, surfaces.heads[first[subject]]) if finer else frames) - heads[subject]

    def made(surface: Callable[[], np.ndarray], subject: str) -> np.ndarray:
        return from_head(surface(), subject)

    def steered_by(landmarks: np.ndarray, subject: str) -> np.ndarray:
        return from_head(surfaces.decoded(first[subject], landmarks), subject)

    motions = [(motion.surface, motion.subject) for motion in one.motions if motion.surface is not None]
    moved: list[Surface] = [partial(made, *motion) for motion in motions]
    moved += [partial(from_head, head[None], key[1]) for key, head in surfaces.heads.items()]
    typical = {name: typical_motions(generator) for name, generator in one.steered.items()}
    steered = [(name, subject) for name in typical for subject in first]
    targets = [lru_cache(maxsize=1)(partial(steered_by, typical[name], subject)) for name, subject in steered]
    moved += targets
    encoded = encode_surfaces(moved, budget)
    own = iter(encoded.codes)
    for method in found["methods"]:
        codes = [next(own) for motion in method["motions"] if motion[-1]]
        if codes:
            method["weights"] = pack(np.concatenate(codes), 1, delta=True)
    starts = {key: next(own)[0] for key in surfaces.heads}
    nothing = np.zeros_like(encoded.codes[0][0])
    found["surface"] = {
        "faces": pack(next(iter(looks.values())).faces, 1, delta=True),
        "recorded_vertices": surfaces.decoder.embedding.num_vertices,
        "heads": [pack(heads[subject], LANDMARK_STEP) if subject in heads else None for subject in subjects],
        "colours": [
            pack(byte_colours(looks[subject].colours), 1) if subject in looks else None for subject in subjects
        ],
        "components": encoded.packed,
        "steps": encoded.steps.tolist(),
        "starts": pack(np.stack([starts.get(key, nothing) for key in one.neutrals]), 1, delta=True),
        "max_error_mm": round(encoded.max_error_mm, 4),
        "mean_error_mm": round(encoded.mean_error_mm, 5),
        "recorded": surfaces.real is not None,
    }
    if finer:
        found["surface"]["held"] = _held(finer)
    for (name, subject), target in zip(steered, targets):
        network = found["steered"][name]
        matrix, error = surface_map(one.steered[name], encoded, typical[name], target())
        network.setdefault("maps", [None] * len(subjects))[subjects.index(subject)] = pack(matrix)
        network["max_error_mm"] = round(max(error, network.get("max_error_mm", 0)), 4)


def _look(surfaces: Surfaces, key: Key) -> ShownHead:
    """The head of a sequence at rest, as exports draw it."""
    head = surfaces.heads[key]
    colours = own_colours(surfaces.files[key[1]], len(head))
    return shown_head([head[None]], surfaces.decoder.embedding.faces, head, colours)


def _held(finer: FinerHead) -> dict[str, Any]:
    """What web/data.js needs for :meth:`face4d.demo.detail.FinerHead.hold_back`."""
    return {
        **{name: pack(getattr(finer, name), 1, delta=True) for name in ("teeth", "pocket", "cheeks")},
        "columns": finer.columns,
        "behind": BEHIND,
        "back": BACK,
    }


def heads_top(described: dict[str, Any]) -> Top:
    """The part of the page that shows heads: style sheet, controls, and at the end of the page data and scripts.

    Names from files stay text: nothing in them ends a script, and the scripts make text of them, never HTML.

    Args:
        described: see :func:`describe`.

    Raises:
        InputError: see :func:`three_js`.
    """
    data = json.dumps(described, separators=(",", ":")).replace("<", "\\u003c")
    own = "\n".join(map(_web, _SCRIPTS))
    scripts = (
        f'<script type="application/json" id="heads-data">{data}</script>\n'
        f'<script>{three_js()}</script>\n<script>\n"use strict";\n(() => {{\n{own}\n}})();\n</script>\n'
    )
    return Top(_web("heads.css"), _web("heads.html"), scripts)


def _web(name: str) -> str:
    return (files("face4d.view") / "web" / name).read_text(encoding="utf-8")
