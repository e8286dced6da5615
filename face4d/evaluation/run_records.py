"""Training runs as records: one's own from their folders, other people's from a CSV of curves."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from face4d.classification.config import ClassifierConfig
from face4d.datasets.entry import DATASETS
from face4d.errors import InputError
from face4d.generation.config import GeneratorConfig
from face4d.runtime.fields import (
    METRICS,
    check,
    configuration,
    integer,
    name,
    number,
    optional,
    plain,
    read_json,
    record,
    score,
)
from face4d.runtime.files import is_visible, read_bytes
from face4d.runtime.run_folder import RunFolder

log = logging.getLogger(__name__)

Curve = tuple[list[int], list[float]]
OURS = "ours"
CONTROLS_SUFFIX = "_controls"  # of the data set of generators that are scored with the controls of the real sequences

_KINDS = {"generator": {"loss", "network"}, "classifier": {"layers"}}  # settings that tell what was trained
_CONFIGS = {"generator": GeneratorConfig, "classifier": ClassifierConfig}
_RUN = record({"config": optional(plain), "source": optional(record({"dataset": optional(name)}))})
_SCORES = record(
    {key: optional(number()) for key in ("test/mm", "test/mm_std", "test/mse", "test/l1", "test/accuracy", "seconds")},
    others=score,
)
_IMPORTED = record(
    {
        "lr": number(0, above=True),
        "hidden_size": integer(1, 2**16),
        "layers": optional(integer(1, 100)),
        "dataset": name,
    }
)
_MOST_BYTES = 32 << 20  # of curves of others, gzipped or not
_MOST_EPOCHS = 10**9


@dataclass(frozen=True)
class RunRecord:
    """One training run.

    Attributes:
        name: name of the run.
        origin: ``ours``, or whose it is.
        kind: ``generator`` or ``classifier``.
        dataset: ``coma``, ``florence``, ``demo``, that of one's own data, or a name of another program; with
            ``_controls`` behind it for a generator that is scored with the controls of the real sequences.
        preset: ``default`` or ``thesis``, by its network and schedule.
        loss: ``l1`` or ``l2`` of a generator, else "".
        layers: of a classifier, else 0.
        curves: (epochs, values) by tag: ``train/loss``, and of the test set ``test/l1`` (m), ``test/mse`` (m²),
            ``test/mm``, ``test/accuracy`` (0..1).
        metrics: what metrics.json holds; empty for a run that is not finished, and for other people's.
        config: the whole configuration, where it is known.
        test_set: what it was tested on, where that is known.
    """

    name: str
    origin: str
    kind: str
    dataset: str
    preset: str
    lr: float
    hidden_size: int
    loss: str = ""
    layers: int = 0
    curves: dict[str, Curve] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    test_set: str | None = None

    @property
    def score_tag(self) -> str:
        """The curve that the thesis judges such a run by."""
        return "test/accuracy" if self.kind == "classifier" else {"l1": "test/l1", "l2": "test/mse"}[self.loss]

    def best_score(self) -> float | None:
        """The best value over all validations on the test set, as the thesis chooses; None without any."""
        values = [value for value in self.curves.get(self.score_tag, ([], []))[1] if math.isfinite(value)]
        if not values:
            return None
        return max(values) if self.kind == "classifier" else min(values)

    def kept_score(self) -> float | None:
        """The value of the weights kept (of the last validation, where these are not known)."""
        kept = self.metrics.get(self.score_tag)
        values = self.curves.get(self.score_tag, ([], []))[1]
        return kept if kept is not None else values[-1] if values else None

    def cell(self) -> tuple[Any, ...]:
        """What the thesis' grids vary, without the learning rate."""
        return (self.kind, self.dataset, self.loss, self.layers, self.hidden_size)


def read_runs(folder: str | Path) -> list[RunRecord]:
    """All generator and classifier runs below a folder, at any depth, sorted by name; runs of other kinds are left out.

    Raises:
        InputError: a damaged config.json, metrics.json or curves.csv.
    """
    records = []
    for path in (path for path in sorted(Path(folder).rglob("config.json")) if is_visible(path, folder)):
        content = read_json(path, _RUN)
        config = content.get("config")
        if not isinstance(config, dict) or not {"lr", "hidden_size", "epochs"} <= set(config):
            log.debug("%s: not a run of a generator or classifier, left out", path)
            continue
        kind = next((kind for kind, wanted in _KINDS.items() if wanted <= set(config)), None)
        if kind is None:
            continue
        check(path, config, configuration(_CONFIGS[kind]), "config")
        run = RunFolder(path.parent)
        common = {
            "name": path.parent.name,
            "origin": OURS,
            "dataset": (content.get("source") or {}).get("dataset") or "unknown",
            "lr": config["lr"],
            "hidden_size": config["hidden_size"],
            "curves": run.read_curves(),
            "metrics": check(run.metrics_path, read_json(run.metrics_path, METRICS), _SCORES)
            if run.metrics_path.is_file()
            else {},
            "config": config,
        }
        if config.get("controls"):  # no rival of those that have the label alone
            common["dataset"] += CONTROLS_SUFFIX
        if kind == "generator":
            preset = "thesis" if config["network"] == "thesis" else "default"
            records.append(RunRecord(kind=kind, preset=preset, loss=config["loss"], **common))
        else:
            preset = "default" if config.get("augment") or config.get("scale_input") else "thesis"
            records.append(RunRecord(kind=kind, preset=preset, layers=config["layers"], **common))
    return records


_DATASETS = {entry.thesis_name: name for name, entry in DATASETS.items() if entry.thesis_name}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,30})?(?:e-?[0-9]{1,3})?"
# L1_1200_0.0001_128_COMA_08-20-2023_19:03 and Classification_2_1e-05_256_COMA_FULL_FRAME_08-22-2023_09:36
_COUNT = "[0-9]{1,9}"
_THESIS_GENERATOR = re.compile(rf"(L[12])_{_COUNT}_({_NUMBER})_({_COUNT})_([A-Za-z_]*[A-Za-z])(?:_[0-9-]+_[0-9:]+)?")
_THESIS_CLASSIFIER = re.compile(
    rf"Classification_({_COUNT})_({_NUMBER})_({_COUNT})_([A-Za-z_]*[A-Za-z])(?:_[0-9-]+_[0-9:]+)?"
)
_DATE = re.compile(r"_\d\d-\d\d-\d{4}_\d\d:\d\d$")
# florence_thesis_l1_0.0001_128 and classifier_coma_default_1_0.01_64, the names of this program
_GENERATOR = re.compile(rf"(.+)_(default|thesis)_(l[12])_({_NUMBER})_({_COUNT})")
_CLASSIFIER = re.compile(rf"classifier_(.+)_(default|thesis)_({_COUNT})_({_NUMBER})_({_COUNT})")


def parse_run_name(name: str) -> dict[str, Any] | None:
    """Fields of a :class:`RunRecord` given by a run's name, None where it tells nothing.

    >>> parse_run_name("L1_1200_0.0001_128_COMA_Florence_08-18-2023_19:49")["dataset"]
    'florence'
    """
    if match := _THESIS_GENERATOR.fullmatch(name):
        loss, lr, size, dataset = match.groups()
        return {
            "kind": "generator",
            "dataset": _known(dataset),
            "preset": "thesis",
            "loss": loss.lower(),
            "lr": float(lr),
            "hidden_size": int(size),
        }
    if match := _THESIS_CLASSIFIER.fullmatch(name):
        layers, lr, size, dataset = match.groups()
        known = {"kind": "classifier", "dataset": _known(dataset), "preset": "thesis"}
        return {**known, "layers": int(layers), "lr": float(lr), "hidden_size": int(size)}
    if match := _CLASSIFIER.fullmatch(name):
        dataset, preset, layers, lr, size = match.groups()
        return {
            "kind": "classifier",
            "dataset": dataset,
            "preset": preset,
            "layers": int(layers),
            "lr": float(lr),
            "hidden_size": int(size),
        }
    if match := _GENERATOR.fullmatch(name):
        dataset, preset, loss, lr, size = match.groups()
        return {
            "kind": "generator",
            "dataset": dataset,
            "preset": preset,
            "loss": loss,
            "lr": float(lr),
            "hidden_size": int(size),
        }
    return None


def _known(dataset: str) -> str:
    return _DATASETS.get(dataset, dataset.lower().replace("_", " "))


def read_imported(path: str | Path) -> list[RunRecord]:
    """Other people's curves: a CSV, gzipped or not, with the columns ``run, tag, step, value``.

    Names of runs are those of the thesis or of this program. Tags of the thesis become those of this program; its
    ``Validation_loss_train`` is the classifier's training loss. Of runs of one cell the one with the most points stays.

    Whose runs they are is the file's name: ``author_curves.csv.gz`` are those of ``author``.

    Raises:
        InputError: an unreadable file, other columns, a value that is no number, or a name that tells no cell.
    """
    path = Path(path)
    origin = path.name.split(".")[0].removesuffix("_curves")
    curves: dict[str, dict[str, dict[int, float]]] = {}
    repeated = unknown = 0
    expected = "a CSV file of curves, gzipped or not"
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(_bytes_of(path, expected)), encoding="utf-8-sig", newline=""))
    try:
        header = next(rows, [])
        if header != ["run", "tag", "step", "value"]:
            raise InputError(path, "the columns run,tag,step,value", ",".join(header)[:80] or "an empty file")
        for row in rows:
            try:
                run, tag, step, value = row
                epoch, point = int(step), float(value)
                if not (0 <= epoch < _MOST_EPOCHS and tag.isprintable()):
                    raise ValueError
            except ValueError:
                raise InputError(
                    path, f"run,tag,step,value in line {rows.line_num}", repr(",".join(row)[:80])
                ) from None
            points = curves.setdefault(run, {}).setdefault(tag, {})
            repeated += epoch in points
            unknown += not math.isfinite(point)
            points[epoch] = point
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(path, expected, f"an unreadable file ({error} after line {rows.line_num})") from None
    if not curves:
        raise InputError(path, "curves", "none below the header")
    if repeated or unknown:
        log.warning(
            "note: %s: %d points given twice, of which the last counts; %d values are NaN or infinite",
            path,
            repeated,
            unknown,
        )
    records = []
    for run, by_tag in curves.items():
        fields = parse_run_name(run)
        if fields is None:
            raise InputError(
                path, "names of runs like L1_1200_0.0001_128_COMA or florence_thesis_l1_0.0001_128", run[:80]
            )
        check(path, fields, _IMPORTED, f"the run {run[:60]}")
        imported = RunRecord(name=_DATE.sub("", run), origin=origin, **fields)
        imported.curves.update(
            {
                _own_tag(tag, imported): (sorted(points), [points[epoch] for epoch in sorted(points)])
                for tag, points in by_tag.items()
            }
        )
        records.append(imported)
    return longest_of_each_cell(records)


def longest_of_each_cell(records: Iterable[RunRecord]) -> list[RunRecord]:
    """One record per cell and learning rate, the one with the most points."""
    best: dict[tuple[Any, ...], RunRecord] = {}
    for run in records:
        key = (run.cell(), run.lr, run.preset)
        other = best.get(key)
        if other is None or _points(run) > _points(other):
            best[key] = run
        if other is not None:
            log.info("%s: two runs of one cell, the one with fewer points is left out: %s", run.origin, run.name)
    return list(best.values())


def _points(record: RunRecord) -> int:
    return sum(len(values) for _, values in record.curves.values())


def _own_tag(tag: str, record: RunRecord) -> str:
    if tag.endswith("/Validation_Accuracy"):
        return "test/accuracy"
    if tag.endswith("/Validation_loss_train"):
        return "train/loss"
    if re.fullmatch(r"Loss/\w+/(train|validation)", tag):
        return "train/loss" if tag.endswith("train") else record.score_tag
    return tag


def _bytes_of(path: Path, expected: str) -> bytes:
    """Content of a file, gzipped or not.

    Raises:
        InputError: missing, damaged, or larger than memory should hold.
    """
    data = read_bytes(path, expected, most=_MOST_BYTES)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(_MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(path, expected, f"an unreadable file ({error})") from None
    if len(data) > _MOST_BYTES:
        raise InputError(path, f"at most {_MOST_BYTES >> 20} MB of curves", "more")
    return data
