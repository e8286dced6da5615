"""All figures and tables of a working folder: from records of runs and scorings to PDF, PNG, GIF, tables and one
page.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from face4d.datasets.landmark_set import read_landmarks
from face4d.errors import InputError
from face4d.evaluation.breakdowns import error_keys, per_group_columns, per_label_columns, per_subject_columns
from face4d.evaluation.comparison import comparison_table, groups, runs_table, score_title
from face4d.evaluation.results import RECORD, Key, Scored, test_set
from face4d.evaluation.run_records import CONTROLS_SUFFIX, OURS, RunRecord
from face4d.evaluation.scores import REALISM_COLUMNS, SCORE_COLUMNS, TIMING_COLUMNS, competes
from face4d.evaluation.tables import Column, Row, filled, html_table, write_table
from face4d.render.landmarks import Tile, write_contact_sheet
from face4d.runtime.progress import counted
from face4d.view import curves, score_plots
from face4d.view.plots import confusion_matrix_figure, save_figure
from face4d.view.report import Section, Top, embedded, write_page
from face4d.view.score_plots import strip

TRIVIAL = ("static neutral", "class mean")
_JUDGED = ("real", "generated")
_ON_FACE = ("generated", "class mean")
_ERROR = " mm_mean"  # ends the keys of errors by method
GALLERY_FPS = 25
PAGE_BYTES = 5_000_000  # of scorings' pictures in the page, which with its moving heads still fits into a mail

log = logging.getLogger(__name__)


@dataclass
class FigureSet:
    """What was found, where figures go, and the page that grows meanwhile.

    Attributes:
        output: folder to write to.
        records: runs, one's own and others'.
        scored: scorings, each with the ground truth of its sequences.
        families: what to make: heads, curves, strips, galleries, scores, tables, report.
        every_subject: strips of every test subject, not of the first only.
        written: all paths so far.
    """

    output: Path
    records: Sequence[RunRecord]
    scored: Sequence[tuple[Scored, dict[Key, Path]]]
    families: Sequence[str]
    every_subject: bool = False
    written: list[Path] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    _top: Top | None = field(default=None, init=False)  # the moving heads
    _room: int = field(default=PAGE_BYTES, init=False)  # what is left of it
    _left_out: int = field(default=0, init=False)  # pictures of the section at hand that there was no room for

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Name and work of every step, in the order of the page."""
        if "tables" in self.families and self.scored:
            yield "scores", self._all_scores
        # the room in the page is theirs first
        newest_first = sorted(self.scored, key=lambda pair: -(pair[0].folder / RECORD).stat().st_mtime_ns)
        for scored, truth in newest_first:
            yield scored.name, partial(self._scoring, scored, truth)
        for kind, dataset in dict.fromkeys((kind, dataset) for kind, dataset, _ in groups(self.records)):
            yield f"{kind}s, {dataset}", partial(self._training, kind, dataset)
        if "report" in self.families:
            if "heads" in self.families and any(scored.generated for scored, _ in self.scored):
                yield "moving heads", partial(self._heads, newest_first)
            yield "report", self._report

    def _save(self, name: str, figure: Figure, caption: str, *, limited: bool = False) -> str:
        """Write a figure; returns it as HTML, see :meth:`_shown`."""
        png, pdf = save_figure(figure, self.output / name)
        self.written += [png, pdf]
        return self._shown(png, caption, limited=limited)

    def _shown(self, picture: Path, caption: str, *, limited: bool = False) -> str:
        """A picture as HTML, "" where no page is made or, of a kind that is limited, where the page has no room for
        it.
        """
        if "report" not in self.families:
            return ""
        shown = embedded(picture, caption)
        if limited:
            if len(shown) > self._room:
                self._left_out, self._room = self._left_out + 1, 0
                return ""
            self._room -= len(shown)
        return shown

    def _add(self, section: Section, name: str, figure: Figure | None, caption: str, *, limited: bool = False) -> None:
        """Write a figure and show it in a section."""
        if figure is not None:
            section.blocks.append(self._save(name, figure, caption, limited=limited))

    def _table(
        self,
        section: Section,
        title: str,
        name: str,
        columns: Sequence[Column],
        rows: Sequence[Row],
        contest: Sequence[Hashable] | None = None,
        across: Sequence[str] = (),
    ) -> None:
        """Write a table and show it in a section."""
        if "tables" in self.families and rows:
            self.written += write_table(self.output / "tables" / name, columns, rows, contest=contest, across=across)
            section.heading(title)
            section.table(html_table(columns, rows, contest=contest, across=across))

    def _all_scores(self) -> None:
        """One table over all scorings."""
        section = Section("Scores")
        rows = all_score_rows([scored for scored, _ in self.scored])
        contest = [row["test_set"] if competes(row["method"]) else None for row in rows]
        sentence = (
            "Errors over frames 1 to T of the test sequences. Bold is the best of the answers to one test set, "
            "judged by one classifier"
        )
        section.text(f"{sentence}: not the real sequences, nor what was chosen with them.")
        for name, title, all_columns in (
            ("scores", "Errors and accuracy", SCORE_COLUMNS),
            ("realism", "Realism (docs/evaluation.md defines each)", REALISM_COLUMNS),
            ("timing", "When and how strong", TIMING_COLUMNS),
        ):
            columns = filled(all_columns, rows)
            if len(columns) > 1:
                self._table(section, title, name, [Column("result", "result"), *columns], rows, contest)
        self.sections.append(section)

    def _scoring(self, scored: Scored, truth: dict[Key, Path]) -> None:
        """Figures and tables of one scored folder."""
        section, self._left_out = Section(scored.name), 0
        if "galleries" in self.families:
            self._gallery(section, scored, truth)
        if "scores" in self.families:
            self._score_figures(section, scored, truth)
        for key, columns_of in (
            ("per_label", per_label_columns),
            ("per_subject", per_subject_columns),
            ("per_group", per_group_columns),
        ):
            rows = scored.rows(key)
            methods = [
                name.removesuffix(_ERROR)
                for name in dict.fromkeys(name for row in rows for name in row)
                if name.endswith(_ERROR)
            ]
            if methods:
                columns = filled(columns_of(methods), rows)
                self._table(
                    section,
                    key.replace("_", " ").capitalize(),
                    f"{scored.name}_{key}",
                    columns,
                    rows,
                    across=error_keys(methods),
                )
        if "strips" in self.families:
            self._strips(section, scored, truth)
        if self._left_out:
            section.text(
                f"{self._left_out} pictures of this scoring are not in this page, "
                f"which would be too large with them; see {scored.name}/."
            )
        if section.blocks:
            self.sections.append(section)

    def _gallery(self, section: Section, scored: Scored, truth: dict[Key, Path]) -> None:
        keys = first_subjects(scored.generated)
        if not keys:
            return
        tiles = [Tile(", ".join(key), read_landmarks(scored.generated[key]), _real(truth, key)) for key in keys]
        path = self.output / scored.name / "gallery.gif"
        write_contact_sheet(path, tiles, fps=GALLERY_FPS, columns=3)
        self.written.append(path)
        section.blocks.append(
            self._shown(path, f"{scored.name}: every label, the first test subject of each", limited=True)
        )

    def _score_figures(self, section: Section, scored: Scored, truth: dict[Key, Path]) -> None:
        base = f"{scored.name}/"
        begin = len(section.blocks)
        over_time = {method: values for method, values in scored.by_method("over_time").items() if method != "real"}
        if over_time:
            figure = score_plots.error_over_time(over_time, title=scored.name)
            self._add(section, base + "error_over_time", figure, "Mean landmark error of each frame.", limited=True)
        face = mean_start(truth, scored.generated)
        on_face = {method: values for method, values in scored.by_method("per_landmark").items() if method in _ON_FACE}
        if on_face and face is not None:
            figure = score_plots.landmark_errors(face, on_face, title=scored.name)
            self._add(
                section,
                base + "landmark_errors",
                figure,
                "Mean error of each landmark over the test set, one scale.",
                limited=True,
            )
        for method, matrix in scored.by_method("confusion").items():
            if method in _JUDGED:
                figure = confusion_matrix_figure(
                    np.asarray(matrix), scored.labels, title=f"{scored.name}: {method} test sequences"
                )
                self._add(
                    section,
                    f"{base}confusion_{method}",
                    figure,
                    f"Confusion matrix of the {method} test sequences.",
                    limited=True,
                )
        features = {name: scored.features[name] for name in _JUDGED if name in scored.features}
        if features and len(scored.features["labels"]) >= 3:
            figure = score_plots.feature_plane(features, scored.features["labels"], scored.labels, title=scored.name)
            caption = (
                "The classifier's time-mean features: the two first principal components (PCA) of real and "
                "generated test sequences."
            )
            self._add(section, base + "features", figure, caption, limited=True)
        figures, section.blocks[begin:] = section.blocks[begin:], []
        if any(figures):
            section.grid(figures)

    def _strips(self, section: Section, scored: Scored, truth: dict[Key, Path]) -> None:
        keys = sorted(scored.generated) if self.every_subject else first_subjects(scored.generated)
        shown = []
        for label, subject in keys:
            real = _real(truth, (label, subject))
            generated = read_landmarks(scored.generated[label, subject])
            if real is None or real.shape != generated.shape:
                continue
            figure = strip(real, generated, title=f"{label}, {subject}")
            shown.append(self._save(f"{scored.name}/strips/{label}_{subject}", figure, "", limited=True))
        if any(shown):
            section.heading("Ground truth above, generated below; mean error of the frame")
            section.grid(shown)

    def _training(self, kind: str, dataset: str) -> None:
        """Curves and tables of all runs of one kind and data set."""
        records = [record for record in self.records if (record.kind, record.dataset) == (kind, dataset)]
        section = Section(f"Training: {kind}s, {dataset}")
        name = f"{kind}_{dataset}".replace(" ", "_")
        for group in groups(records):
            loss = group[2]
            suffix = f"{name}_{loss}" if loss else name
            title = f"{kind}s, {dataset}" + (f", loss {loss.upper()}" if loss else "")
            if "curves" in self.families:
                chosen = [record for record in records if record.loss == loss]
                figure = curves.score_by_size(
                    chosen, references=self._references(dataset, loss), title=title, quantity=score_title(kind, loss)
                )
                caption = "Ours: of the weights kept; others: the best of all their validations."
                self._add(section, f"curves/{suffix}_by_size", figure, caption)
            comparison, rows = comparison_table(records, group)
            self._table(
                section, f"Cell by cell: {title}", f"{suffix}_comparison", comparison, rows, across=("ours", "theirs")
            )
            columns, rows = runs_table(records, group)
            self._table(
                section, f"All runs: {title}", f"{suffix}_runs", columns, rows, [row["test_set"] for row in rows]
            )
        if "curves" in self.families:
            title = f"{kind}s, {dataset}"
            figure = curves.curve_panels(records, title=f"{title}: scores on the test set")
            self._add(section, f"curves/{name}_test", figure, "Score on the test set over epochs.")
            figure = curves.curve_panels(
                records, "train/loss", title=f"{title}: training loss", smoothing=curves.SMOOTHING
            )
            caption = (
                f"Training loss as each preset counts it, exponential smoothing {curves.SMOOTHING} over the raw curve."
            )
            self._add(section, f"curves/{name}_training", figure, caption)
            for tag in ("test/mm", "train/accuracy"):
                figure = curves.curve_panels(records, tag, title=title)
                self._add(
                    section, f"curves/{name}_{tag.replace('/', '_')}", figure, curves.TAG_TITLES[tag] + " over epochs."
                )
        for record in records:
            if record.origin == OURS:
                section.details(
                    f"{record.name}: configuration",
                    json.dumps({"config": record.config, "metrics": record.metrics}, indent=2),
                )
        self.sections.append(section)

    def _references(self, dataset: str, loss: str) -> dict[str, float]:
        """Scores of trivial predictors of a data set, for a generator's figure."""
        key = {"l1": "l1", "l2": "mse"}.get(loss)
        if key is None:
            return {}
        for scored, _ in self.scored:
            if dataset_of(scored, self.records) == dataset:
                return {
                    row["method"]: row[key]
                    for row in scored.rows("scores")
                    if row["method"] in TRIVIAL and row.get(key) is not None
                }
        return {}

    def _heads(self, scored: Sequence[tuple[Scored, dict[Key, Path]]]) -> None:
        """What was generated, beside the real motion, as heads that move in the page."""
        from face4d.view.page import describe, heads_top
        from face4d.view.page_heads import find_motions

        named = (dataset_of(one, self.records) for one, _ in scored)
        datasets = [name and name.removesuffix(CONTROLS_SUFFIX) for name in named]
        steered = [record.name for record in self.records if record.origin == OURS and record.config.get("controls")]
        try:
            self._top = heads_top(describe(find_motions(scored, datasets, steered)))
        except InputError as error:
            log.warning("note: the page has no moving heads: %s", error)

    def _report(self) -> None:
        own = sum(record.origin == OURS for record in self.records)
        others = len(self.records) - own
        introduction = (
            f"{counted(len(self.scored), 'scored set')} of generated sequences, {counted(own, 'training run')}"
        )
        introduction += f", {counted(others, 'run')} of others." if others else "."
        path = self.output / "report.html"
        write_page(path, "Generated facial expressions", introduction, self.sections, self._top)
        self.written.append(path)


def first_subjects(files: dict[Key, Path]) -> list[Key]:
    """Each label with its first subject."""
    first: dict[str, Key] = {}
    for label, subject in sorted(files):
        first.setdefault(label, (label, subject))
    return list(first.values())


def mean_start(truth: dict[Key, Path], generated: dict[Key, Path]) -> np.ndarray | None:
    """Mean first frame (68, 3) of the test sequences, None without any."""
    paths = [truth.get(key, path) for key, path in sorted(generated.items())]
    return np.mean([read_landmarks(path)[0] for path in paths], axis=0) if paths else None


def dataset_of(scored: Scored, records: Sequence[RunRecord]) -> str | None:
    """Data set of a scoring: that of the run it was generated with, or of its classifier; None where neither run is
    there.
    """
    names = (Path(scored.content.get(key) or "").stem for key in ("generated", "classifier"))
    own = {record.name: record.dataset for record in records if record.origin == OURS}
    return next((own[name] for name in (scored.name, *names) if name in own), None)


def all_score_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Rows of all scorings: what was generated first; real and trivial rows that are equal in several scorings once.

    ``test_set`` of a row, no column of the table, is the one it may be compared on.
    """
    rows: list[dict[str, Any]] = []
    others: list[tuple[dict[str, Any], list[str]]] = []
    for one in scored:
        own = [{**row, "test_set": test_set(one)} for row in one.rows("scores")]
        rows += [{"result": one.name, **row} for row in own if row["method"] == "generated"]
        for row in (row for row in own if row["method"] != "generated"):
            names = next((names for known, names in others if known == row), None)
            if names is None:
                others.append((row, [one.name]))
            else:
                names.append(one.name)
    for row, names in others:
        rows.append({"result": "all" if len(names) == len(scored) > 1 else ", ".join(names), **row})
    return rows


def _real(truth: dict[Key, Path], key: Key) -> np.ndarray | None:
    return read_landmarks(truth[key]) if key in truth else None
