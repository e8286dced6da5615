"""Which of several runs is the best: what runs of one kind are compared by, the choice, and the choice in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from face4d.evaluation.tables import Column
from face4d.runtime.fields import check, number, record, score


class Candidate(Protocol):
    """A run to choose from."""

    @property
    def name(self) -> str: ...

    @property
    def dataset(self) -> str: ...

    def metrics(self) -> dict[str, Any] | None:
        """Its scores, None where it is not finished."""


@dataclass(frozen=True)
class Contest:
    """What runs of one kind are compared by.

    Attributes:
        columns: of a table of runs; those of ``validation/...`` are empty where nothing was held out.
        compared: names of the scores below, which have to be there.
        rank: smaller for better runs, from metrics.json and the set that chooses, ``validation`` or ``test``.
        summary: a run's scores on a set as a sentence.
        titles: of columns of settings, by name; others are titled by their name.
    """

    columns: tuple[Column, ...]
    compared: tuple[str, ...]
    rank: Callable[[Mapping[str, Any], str], tuple[float, ...]]
    summary: Callable[[Mapping[str, Any], str], str]
    titles: Mapping[str, str]


GENERATORS = Contest(
    columns=(
        Column("validation/mm", "validation mean (mm)", ".3f", best="min"),
        Column("validation/mm_std", "validation std (mm)", ".3f", best="min"),
        Column("test/mm", "test mean (mm)", ".3f", best="min"),
        Column("test/mm_std", "test std (mm)", ".3f", best="min"),
        Column("test/mse", "test MSE (m²)", ".3e", best="min"),
        Column("test/l1", "test L1 (m)", ".3e", best="min"),
    ),
    compared=("mm", "mm_std"),
    rank=lambda metrics, name: (metrics[f"{name}/mm"] + metrics[f"{name}/mm_std"],),  # as the thesis does
    summary=lambda metrics, name: f"{metrics[f'{name}/mm']:.3f} mm (std {metrics[f'{name}/mm_std']:.3f})",
    titles={"hidden_size": "H"},
)

CLASSIFIERS = Contest(
    columns=(
        Column("validation/accuracy", "validation accuracy", ".1%", best="max"),
        Column("validation/loss", "validation loss", ".4f", best="min"),
        Column("test/accuracy", "test accuracy", ".1%", best="max"),
        Column("test/loss", "test loss", ".4f", best="min"),
        Column("train/accuracy", "training accuracy", ".1%"),
    ),
    compared=("accuracy", "loss"),
    rank=lambda metrics, name: (-metrics[f"{name}/accuracy"], metrics[f"{name}/loss"]),
    summary=lambda metrics, name: f"{metrics[f'{name}/accuracy']:.1%} (loss {metrics[f'{name}/loss']:.4f})",
    titles={"hidden_size": "H"},
)


def scores_of(contest: Contest, run: Candidate, *sets: str) -> dict[str, Any] | None:
    """A finished run's metrics, in which what it is compared by is there and finite; None where it is not finished.

    Raises:
        InputError: a score that is missing or no finite number.
    """
    metrics = run.metrics()
    wanted = record({f"{name}/{key}": number() for name in sets for key in contest.compared}, others=score)
    return None if metrics is None else check(f"metrics.json of {run.name}", metrics, wanted)


def choose_runs(contest: Contest, runs: Sequence[Candidate], select: str) -> dict[str, str]:
    """Name of the best run of each data set, by the set that chooses (``validation`` or ``test``); none with
    ``last``.
    """
    if select == "last":
        return {}
    chosen = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        ranked = [
            (contest.rank(metrics, select), run.name) for run in own if (metrics := scores_of(contest, run, select))
        ]
        if ranked:
            chosen[dataset] = min(ranked, key=lambda entry: entry[0])[1]
    return chosen


def sentences(
    contest: Contest, chosen: Sequence[Candidate], held_out: Mapping[str, Sequence[str]], select: str
) -> list[str]:
    """The choice in words.

    Args:
        chosen: the best run of each data set.
        held_out: by data set, the training subjects that chose.
    """
    lines = []
    for run in chosen:
        by = ""
        metrics = scores_of(contest, run, "test", *["validation"] * (select == "validation"))
        if metrics is not None and select == "validation":
            subjects = ", ".join(held_out[run.dataset])
            by = f"on {subjects}, which did not train: {contest.summary(metrics, 'validation')}; "
        if metrics is not None:
            lines.append(f"{run.dataset}: chosen {run.name}; {by}test set: {contest.summary(metrics, 'test')}")
    if chosen and select == "test":
        lines.append("chosen on the test set, as in the thesis: its scores are not those of unseen data")
    return lines
