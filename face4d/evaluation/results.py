"""What a scoring leaves on disk (tables, ``evaluate.json``, features), and reading it back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.datasets import companions
from face4d.datasets.layout import landmark_paths, parse_sequence_name, sample_folders
from face4d.errors import InputError
from face4d.evaluation.breakdowns import error_keys, per_group_columns, per_label_columns, per_subject_columns
from face4d.evaluation.scores import REALISM_COLUMNS, SCORE_COLUMNS, TIMING_COLUMNS, Scores, competes
from face4d.evaluation.tables import Column, csv_table, filled, write_table
from face4d.runtime.arrays import load_npz
from face4d.runtime.atomic import replacing, write_bytes, write_json, write_text
from face4d.runtime.fields import LABELS, integer, list_of, mapping, number, optional, read_json, record, score, text
from face4d.runtime.files import is_visible

log = logging.getLogger(__name__)

RECORD = "evaluate.json"
FEATURES = "features.npz"


def write_results(output: str | Path, scores: Scores, labels: Sequence[str], record: Mapping[str, Any]) -> list[Path]:
    """Write the tables of a scoring, its record and its feature vectors.

    In ``output``: ``scores``, ``realism``, ``timing``, ``per_label``, ``per_subject`` and ``per_group`` as CSV,
    Markdown and LaTeX, ``confusion_real.csv``, ``confusion_generated.csv``, features.npz with an array (N, D) per
    method (spaces as underscores) and ``labels`` (N,), and evaluate.json with everything else at full precision, from
    which tables and figures are made without scoring again.

    Args:
        labels: class names in the order of the classifier's indices.
        record: what was scored: ``generated, classifier, landmarks, sequences, frames, ...``.

    Returns:
        The paths written.
    """
    output = Path(output)
    paths = write_score_tables(output, scores.rows, scores.training)
    across = error_keys(scores.methods)
    for name, columns_of, rows in (
        ("per_label", per_label_columns, scores.per_label),
        ("per_subject", per_subject_columns, scores.per_subject),
        ("per_group", per_group_columns, scores.per_group),
    ):
        paths += write_table(output / name, filled(columns_of(scores.methods), rows), rows, across=across)
    for method in scores.confusion.keys() & {"real", "generated"}:
        columns = [Column("label", "true label"), *[Column(label, label) for label in labels]]
        rows = [
            {"label": label, **dict(zip(labels, counts))}
            for label, counts in zip(labels, scores.confusion[method].tolist())
        ]
        paths.append(output / f"confusion_{method}.csv")
        write_text(paths[-1], csv_table(columns, rows))
    if scores.features:
        paths.append(output / FEATURES)
        with replacing(paths[-1]) as temporary:
            arrays: dict[str, Any] = {method.replace(" ", "_"): array for method, array in scores.features.items()}
            np.savez(temporary, **arrays)
    content = {**record, "labels": list(labels), **as_record(scores)}
    paths.append(output / RECORD)
    write_json(paths[-1], content)
    return paths


def score_tables(
    rows: Sequence[dict[str, Any]], training: dict[str, Any] | None
) -> dict[str, tuple[list[Column], list[dict[str, Any]]]]:
    """Columns and rows of the tables ``scores``, ``realism`` and ``timing``, those without an entry left out.

    Args:
        rows: of the methods.
        training: of the real training sequences, for the tables that say something of them; None = not known.
    """
    tables = {}
    for name, all_columns in (("scores", SCORE_COLUMNS), ("realism", REALISM_COLUMNS), ("timing", TIMING_COLUMNS)):
        shown = [*rows[:1], *([training] if training else []), *rows[1:]]
        keys = {column.key for column in all_columns} - {"method"}
        shown = [row for row in shown if any(row.get(key) is not None for key in keys)]
        columns = filled(all_columns, shown)
        if len(columns) > 1:
            tables[name] = columns, shown
    return tables


def write_score_tables(output: Path, rows: Sequence[dict[str, Any]], training: dict[str, Any] | None) -> list[Path]:
    """Write the tables of :func:`score_tables` into a folder."""
    paths: list[Path] = []
    for name, (columns, shown) in score_tables(rows, training).items():
        paths += write_table(output / name, columns, shown, contest=[competes(row["method"]) for row in shown])
    return paths


def write_beside(generated: str | Path, results: str | Path, *, overwrite: bool) -> list[Path]:
    """Copy the evaluate.json of a scoring into the generated folder; that of another scoring stays there, unless
    ``overwrite``, and a note says so.

    Returns:
        The path written, if any.
    """
    path, content = Path(generated) / RECORD, (Path(results) / RECORD).read_bytes()
    if path.exists() and path.read_bytes() == content:
        return []
    if path.exists() and not overwrite:
        log.warning("note: %s is of another scoring and stays (--overwrite replaces it)", path)
        return []
    write_bytes(path, content)
    return [path]


def as_record(scores: Scores) -> dict[str, Any]:
    """Scores as plain data for JSON; the feature vectors are left to :data:`FEATURES`."""

    def plain(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
        return {method: array.tolist() for method, array in arrays.items()}

    return {
        "scores": scores.rows,
        "training": scores.training,
        "fid_real_halves": scores.fid_real_halves,
        "samples": scores.samples,
        "per_label": scores.per_label,
        "per_subject": scores.per_subject,
        "per_group": scores.per_group,
        "over_time": plain(scores.over_time),
        "per_landmark": plain(scores.per_landmark),
        "confusion": plain(scores.confusion),
    }


Key = tuple[str, str]  # label, subject

_ROW = record({}, others=score)
RECORD_FIELDS = record(
    {
        "scores": list_of(record({"method": text}, others=score), 0, 1000),
        "labels": LABELS,
        "generated": optional(text),
        "classifier": optional(text),
        "landmarks": optional(text),
        "training": optional(record({"method": text}, others=score)),
        "per_label": optional(list_of(_ROW)),
        "per_subject": optional(list_of(_ROW)),
        "per_group": optional(list_of(_ROW)),
        "over_time": optional(mapping(list_of(number(0), 1))),
        "per_landmark": optional(mapping(list_of(number(0), NUM_LANDMARKS, NUM_LANDMARKS))),
        "confusion": optional(mapping(list_of(list_of(integer(0, 10**9))))),
    },
    "a record of a scoring (scores, labels)",
)
"""What evaluate.json holds; records of earlier versions lack fields."""


@dataclass(frozen=True)
class Scored:
    """One scored set of generated sequences.

    Attributes:
        name: of the folder of results, or of the generated folder.
        folder: where evaluate.json lies.
        content: of evaluate.json; records of earlier versions lack keys.
        generated: generated files by label and subject; empty where the folder is gone. Of several samples the first.
        features: (N, D) by method, and ``labels`` (N,); empty where there are none.
    """

    name: str
    folder: Path
    content: dict[str, Any]
    generated: dict[Key, Path] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        return self.content["labels"]

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Rows of a table, [] where the record has none."""
        return self.content.get(key) or []

    def by_method(self, key: str) -> dict[str, list]:
        """What is stored by method, {} where the record has none."""
        return self.content.get(key) or {}


def test_set(scored: Scored) -> tuple:
    """What tells whether two scorings may be compared: the classifier, and the test set.

    Any two scorings of the same test set find the same error of the static neutral, whatever was generated.
    """
    neutral = next((row for row in scored.rows("scores") if row["method"] == "static neutral"), {})
    errors: list[Any] = [f"{neutral[key]:.4g}" for key in ("mm_mean", "mse") if neutral.get(key) is not None]
    content = scored.content
    return (
        content.get("classifier"),
        content.get("sequences"),
        content.get("frames"),
        *(errors or [content.get("landmarks")]),
    )


def sequence_files(folder: str | Path) -> dict[Key, Path]:
    """Landmark files below a folder by label and subject; names that are none and dot files are passed over."""
    found = {}
    for path in landmark_paths(folder):
        if "_" not in path.stem.strip("_"):
            continue
        found[parse_sequence_name(path)] = path
    return found


def generated_files(folder: str | Path) -> dict[Key, Path]:
    """:func:`sequence_files` of a generated folder; of several samples those of the first."""
    samples = sample_folders(folder) if Path(folder).is_dir() else []
    return sequence_files(samples[0] if samples else folder)


def read_scored(path: str | Path) -> Scored:
    """Read an evaluate.json and what lies beside it.

    Raises:
        InputError: not a record of a scoring, or damaged features.
    """
    path = Path(path)
    content = read_json(path, RECORD_FIELDS)
    count = len(content["labels"])
    for method, matrix in (content.get("confusion") or {}).items():
        if len(matrix) != count or any(len(row) != count for row in matrix):
            raise InputError(path, f"confusion.{method} to be {count} rows of {count} numbers", f"{len(matrix)} rows")
    generated = content.get("generated")
    place = companions.find(path, generated) if generated else None
    files = generated_files(place) if place and place.is_dir() else {}
    if not files:
        log.info("%s: its generated sequences (%s) are not there: no strips and no gallery", path, generated)
    return Scored(path.parent.name, path.parent, content, files, read_features(path.with_name(FEATURES)))


def read_features(path: Path) -> dict[str, np.ndarray]:
    """Feature vectors (N, D) by method and ``labels`` (N,); {} without the file.

    Raises:
        InputError: damaged, or arrays of other shapes.
    """
    if not path.is_file():
        return {}
    expected = "finite arrays (N, D) and labels (N,)"
    features = load_npz(path, expected, ("labels",))
    labels = features["labels"]
    vectors = [array for name, array in features.items() if name != "labels"]
    fits = labels.ndim == 1 and all(
        a.ndim == 2 and len(a) == len(labels) and a.dtype.kind in "fiu" and np.isfinite(a).all() for a in vectors
    )
    if not fits:
        raise InputError(
            path, expected, ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in features.items())
        )
    return features


def find_scored(results: str | Path, generated: str | Path) -> list[Scored]:
    """All scorings below the results folder; then those beside generated folders that are not among them.

    Raises:
        InputError: a damaged record.
    """
    found = [read_scored(path) for path in sorted(Path(results).glob(f"*/{RECORD}")) if is_visible(path, results)]
    places = (
        companions.find(one.folder / RECORD, one.content["generated"]) for one in found if one.content.get("generated")
    )
    known = {place.resolve() for place in places if place}
    records = (path for path in sorted(Path(generated).glob(f"*/{RECORD}")) if is_visible(path, generated))
    found += [read_scored(path) for path in records if path.parent.resolve() not in known]
    return found


def truth_files(scored: Scored, others: Iterable[Path]) -> dict[Key, Path]:
    """Ground truth by label and subject: of the first landmark folder that has a sequence that was generated."""
    named = scored.content.get("landmarks")
    remembered = companions.find(scored.folder / RECORD, named) if named else None
    for folder in [*others, *([remembered] if remembered else [])]:
        if folder.is_dir():
            files = sequence_files(folder)
            if any(key in files for key in scored.generated):
                return files
    return {}


def require_truth(scored: Sequence[Scored], folders: Iterable[Path]) -> None:
    """Refuse a landmark folder that holds none of the sequences that were generated.

    Raises:
        InputError: naming it.
    """
    generated = {key for one in scored for key in one.generated}
    for folder in folders:
        if generated and generated.isdisjoint(sequence_files(folder)):
            raise InputError(folder, "landmarks of sequences that were scored", "none of them")
