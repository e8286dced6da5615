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
        columns: of a table of runs; those of ``validation_...`` are empty where nothing was held out.
        compared: names of the scores below, which have to be there.
        rank: smaller for better runs, from metrics.json and the prefix of the set that chooses (``validation_``, or
            that of the test set).
        test_prefix: prefix of the test set's metrics.
        told: a run's scores as a sentence, by prefix.
        titles: of columns of settings, by name; others are titled by their name.
    """

    columns: tuple[Column, ...]
    compared: tuple[str, ...]
    rank: Callable[[Mapping[str, Any], str], tuple[float, ...]]
    test_prefix: str
    told: Callable[[Mapping[str, Any], str], str]
    titles: Mapping[str, str]


GENERATORS = Contest(
    columns=(
        Column("validation_mm", "validation mean (mm)", ".3f", best="min"),
        Column("validation_mm_std", "validation std (mm)", ".3f", best="min"),
        Column("mm", "test mean (mm)", ".3f", best="min"),
        Column("mm_std", "test std (mm)", ".3f", best="min"),
        Column("mse", "test MSE (m²)", ".3e", best="min"),
        Column("l1", "test L1 (m)", ".3e", best="min"),
    ),
    compared=("mm", "mm_std"),
    rank=lambda metrics, prefix: (metrics[prefix + "mm"] + metrics[prefix + "mm_std"],),  # as the thesis does
    test_prefix="",
    told=lambda metrics, prefix: f"{metrics[prefix + 'mm']:.3f} mm (std {metrics[prefix + 'mm_std']:.3f})",
    titles={"hidden_size": "H"},
)

CLASSIFIERS = Contest(
    columns=(
        Column("validation_accuracy", "validation accuracy", ".1%", best="max"),
        Column("validation_loss", "validation loss", ".4f", best="min"),
        Column("test_accuracy", "test accuracy", ".1%", best="max"),
        Column("test_loss", "test loss", ".4f", best="min"),
        Column("train_accuracy", "training accuracy", ".1%"),
    ),
    compared=("accuracy", "loss"),
    rank=lambda metrics, prefix: (-metrics[prefix + "accuracy"], metrics[prefix + "loss"]),
    test_prefix="test_",
    told=lambda metrics, prefix: f"{metrics[prefix + 'accuracy']:.1%} (loss {metrics[prefix + 'loss']:.4f})",
    titles={"hidden_size": "H"},
)


def scores_of(contest: Contest, run: Candidate, *prefixes: str) -> dict[str, Any] | None:
    """A finished run's metrics, in which what it is compared by is there and finite; None where it is not finished.

    Raises:
        InputError: a score that is missing or no finite number.
    """
    metrics = run.metrics()
    wanted = record({prefix + name: number() for prefix in prefixes for name in contest.compared}, others=score)
    return None if metrics is None else check(f"metrics.json of {run.name}", metrics, wanted)


def choose_runs(contest: Contest, runs: Sequence[Candidate], select: str) -> dict[str, str]:
    """Name of the best run of each data set, by the set that chooses (``validation`` or ``test``); none with
    ``last``.
    """
    if select == "last":
        return {}
    prefix = "validation_" if select == "validation" else contest.test_prefix
    chosen = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        ranked = [
            (contest.rank(metrics, prefix), run.name) for run in own if (metrics := scores_of(contest, run, prefix))
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
        metrics = scores_of(contest, run, contest.test_prefix, *["validation_"] * (select == "validation"))
        if metrics is not None and select == "validation":
            by = f"on {', '.join(held_out[run.dataset])}, which did not train: {contest.told(metrics, 'validation_')}; "
        if metrics is not None:
            lines.append(
                f"{run.dataset}: chosen {run.name}; {by}test set: {contest.told(metrics, contest.test_prefix)}"
            )
    if chosen and select == "test":
        lines.append("chosen on the test set, as in the thesis: its scores are not those of unseen data")
    return lines
