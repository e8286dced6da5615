"""The literature's scores: numbers are numbers, what is not known is empty, and nothing derived is called real."""

import csv

from face4d.evaluation.protocols import known_protocols
from face4d.evaluation.published import COUNTS, FILE, PUBLISHED_COLUMNS, SCORES, published_beside, read_published
from tests.conftest import real_data


def test_every_row_names_its_source_and_a_protocol_that_exists_or_none():
    rows = read_published()
    assert {row["protocol"] for row in rows} <= {*known_protocols(), None}
    for row in rows:
        assert row["method"] and row["reference"] and row["data"] in ("real", "derived") and row["dataset"]
        for key in (*SCORES, *COUNTS):
            assert row[key] is None or row[key] > 0
        if all(row[key] is None for key in SCORES):
            assert "not entered" in row["note"]
    header = next(csv.reader(FILE.open(encoding="utf-8", newline="")))
    shown = {column.key for column in PUBLISHED_COLUMNS}
    assert shown <= set(header) and set(header) - shown == {"protocol", "dataset"}


def test_rows_of_a_protocol():
    rows = {row["method"]: row for row in published_beside("thesis-florence")}
    assert rows["LSTMCell, L2 loss"]["mse"] == 9.42634e-07 and rows["LSTMCell, L2 loss"]["mm_mean"] is None
    assert published_beside("florence-70") == []


def test_the_thesis_rows_are_the_best_of_its_logs():
    with real_data("data/author_runs.csv").open(newline="") as file:
        logs = list(csv.DictReader(file))

    def extreme(tag: str, start: str, key: str, best) -> float:
        return best(float(row[key]) for row in logs if row["tag"] == tag and row["run"].startswith(start))

    for protocol, data in (("thesis-coma", "COMA"), ("thesis-florence", "COMA_Florence")):
        rows = {row["method"]: row for row in published_beside(protocol)}
        assert rows["LSTMCell, L2 loss"]["mse"] == extreme(f"Loss/{data}/validation", "L2", "min", min)
        assert rows["LSTMCell, L1 loss"]["l1"] == extreme(f"Loss/{data}/validation", "L1", "min", min)
        judge = rows["classifier on real sequences"]["accuracy"]
        assert judge == extreme(f"Classification/{data}/Validation_Accuracy", "", "max", max)
