"""Which run is the best."""

from dataclasses import dataclass

import pytest

from face4d.errors import InputError
from face4d.evaluation.choice import CLASSIFIERS, GENERATORS, choose_runs, sentences


@dataclass
class Finished:
    """A run with metrics."""

    dataset: str
    name: str
    scores: dict | None

    def metrics(self):
        return self.scores


RUNS = [
    Finished("florence", "a", {"test/mm": 1.0, "test/mm_std": 2.0, "validation/mm": 1.0, "validation/mm_std": 1.0}),
    Finished("florence", "b", {"test/mm": 1.1, "test/mm_std": 1.0, "validation/mm": 1.1, "validation/mm_std": 1.0}),
    Finished("florence", "unfinished", None),
    Finished("coma", "c", {"test/mm": 9.0, "test/mm_std": 9.0, "validation/mm": 9.0, "validation/mm_std": 9.0}),
]


def test_choice_is_mean_plus_std_or_accuracy_then_loss():
    assert choose_runs(GENERATORS, RUNS, "validation") == {"florence": "a", "coma": "c"}
    assert choose_runs(GENERATORS, RUNS, "test") == {"florence": "b", "coma": "c"}
    assert choose_runs(GENERATORS, RUNS, "last") == {}
    runs = [
        Finished("coma", name, {"test/accuracy": a, "test/loss": b})
        for name, a, b in (("a", 0.5, 0.1), ("b", 0.9, 0.4), ("c", 0.9, 0.3))
    ]
    assert choose_runs(CLASSIFIERS, runs, "test") == {"coma": "c"}


def test_the_choice_is_told_with_what_it_was_made_by():
    by_validation = sentences(GENERATORS, RUNS[:1], {"florence": ["CH09", "CH10"]}, "validation")
    assert by_validation == [
        "florence: chosen a; on CH09, CH10, which did not train: 1.000 mm (std 1.000); test set: 1.000 mm (std 2.000)"
    ]
    by_test = sentences(GENERATORS, RUNS[1:2], {"florence": []}, "test")
    assert (
        by_test[0] == "florence: chosen b; test set: 1.100 mm (std 1.000)" and "not those of unseen data" in by_test[1]
    )
    assert sentences(GENERATORS, [], {}, "last") == []


def test_a_score_that_is_missing_is_named():
    with pytest.raises(InputError, match="metrics.json of x.*validation/mm"):
        choose_runs(GENERATORS, [Finished("coma", "x", {"test/mm": 1.0, "test/mm_std": 2.0})], "validation")
