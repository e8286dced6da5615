import gzip
import json
import re

import pytest

from face4d.errors import InputError
from face4d.evaluation.comparison import comparison_table, groups, runs_table
from face4d.evaluation.run_records import RunRecord, parse_run_name, read_imported, read_runs

HEADER = "run,tag,step,value\n"
CURVES = HEADER + "".join(
    f"{run},{tag},{step},{value}\n"
    for run, tag, step, value in [
        ("L1_1200_0.0001_128_COMA_Florence_08-18-2023_19:49", "Loss/COMA_Florence/train", 1, 0.7),
        ("L1_1200_0.0001_128_COMA_Florence_08-18-2023_19:49", "Loss/COMA_Florence/validation", 50, 0.0004),
        ("L1_1200_0.0001_128_COMA_Florence_08-18-2023_19:49", "Loss/COMA_Florence/validation", 100, 0.0005),
        ("L1_1200_1e-05_128_COMA_Florence_08-18-2023_19:50", "Loss/COMA_Florence/validation", 50, 0.0003),
        ("Classification_2_1e-05_256_COMA_08-22-2023_09:36", "Classification/COMA/Validation_Accuracy", 50, 0.3),
        ("Classification_2_1e-05_256_COMA_08-22-2023_09:36", "Classification/COMA/Validation_loss_train", 1, 2.4),
        (
            "Classification_2_1e-05_256_COMA_FULL_FRAME_08-22-2023_09:36",
            "Classification/COMA_FULL_FRAME/Validation_Accuracy",
            50,
            0.4,
        ),
    ]
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("L2_1200_1e-05_2048_COMA_Florence_08-19-2023_12:54", ("generator", "florence", "thesis", 1e-5, 2048, "l2")),
        ("L1_1200_0.0001_128_COMA", ("generator", "coma", "thesis", 1e-4, 128, "l1")),
        ("Classification_3_0.0001_512_COMA_08-22-2023_09:36", ("classifier", "coma", "thesis", 1e-4, 512, 3)),
        (
            "Classification_1_0.0001_128_COMA_FULL_FRAME_08-22-2023_09:36",
            ("classifier", "coma full frame", "thesis", 1e-4, 128, 1),
        ),
        ("florence_default_l1_0.004_128", ("generator", "florence", "default", 4e-3, 128, "l1")),
        ("classifier_coma_thesis_2_1e-05_256", ("classifier", "coma", "thesis", 1e-5, 256, 2)),
    ],
)
def test_names_of_runs_tell_their_cell(name, expected):
    found = parse_run_name(name)
    assert (found["kind"], found["dataset"], found["preset"], found["lr"], found["hidden_size"]) == expected[:5]
    assert found.get("loss", found.get("layers")) == expected[5]


@pytest.mark.parametrize("name", ["tag", "L3_1200_0.1_128_COMA", "L1_1200_fast_128_COMA", "run7", ""])
def test_other_names_tell_nothing(name):
    assert parse_run_name(name) is None


@pytest.mark.parametrize("zipped", [False, True])
def test_import_of_curves_gives_them_our_tags(tmp_path, zipped):
    path = tmp_path / ("someone_curves.csv" + ".gz" * zipped)
    path.write_bytes(gzip.compress(CURVES.encode(), mtime=0) if zipped else CURVES.encode())
    records = read_imported(path)
    assert [record.name for record in records[:2]] == [
        "L1_1200_0.0001_128_COMA_Florence",
        "L1_1200_1e-05_128_COMA_Florence",
    ]
    assert {record.origin for record in records} == {"someone"}
    first = records[0]
    assert first.curves == {"train/loss": ([1], [0.7]), "test/l1": ([50, 100], [0.0004, 0.0005])}
    assert (first.best_score(), first.kept_score()) == (0.0004, 0.0005)
    classifier = next(record for record in records if record.dataset == "coma")
    assert classifier.curves == {"test/accuracy": ([50], [0.3]), "train/loss": ([1], [2.4])} and classifier.layers == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n", ["the columns run,tag,step,value", "a,b"]),
        (b"", ["an empty file"]),
        (HEADER.encode(), ["none below the header"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,Loss/COMA/train,one,0.1\n", ["line 2", "one"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,Loss/COMA/train,1\n", ["line 2"]),
        (HEADER.encode() + b"mine,Loss/COMA/train,1,0.1\n", ["names of runs like", "found mine"]),
        (b"\x1f\x8bbroken", ["found an unreadable file ("]),
        (gzip.compress(CURVES.encode(), mtime=0)[:60], ["unreadable", "end-of-stream"]),
        (b"\xff\xfe\x00", ["unreadable"]),
        (HEADER.encode().replace(b",", b";"), ["the columns run,tag,step,value", "run;tag"]),
        (HEADER.encode() + b"L1_0_._1_A,x,5,0\n", ["names of runs like", "L1_0_._1_A"]),
        (HEADER.encode() + b"L1_1200_1.2.3_128_COMA,x,5,0\n", ["names of runs like"]),
        (HEADER.encode() + b"L1_1200_0.0001_0_COMA,x,5,0\n", ["hidden_size", "from 1 to 65536", "found 0"]),
        (HEADER.encode() + b"L1_1200_0.0_128_COMA,x,5,0\n", ["lr", "above 0"]),
        (HEADER.encode() + b"L1_1200_0.1_" + b"1" * 5000 + b"_COMA,x,5,0\n", ["names of runs like"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,x,-1,0\n", ["line 2"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,x," + b"1" * 30 + b",0\n", ["line 2"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,\x1b[1m,5,0\n", ["line 2"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,x,5," + b"0" * 200_000 + b"\n", ["field larger than field limit"]),
        (HEADER.encode() + b"L1_1200_0.0001_128_COMA,x,5,0\xff\n", ["unreadable", "utf-8"]),
        (gzip.compress(bytes(40 << 20), mtime=0), ["at most 32 MB"]),
    ],
)
def test_bad_files_of_curves_are_one_line(tmp_path, content, words):
    path = tmp_path / "curves.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_imported(path)
    assert caught.value.path == str(path) and all(word in str(caught.value) for word in words), str(caught.value)


def test_odd_files_of_curves_are_read_with_a_note(tmp_path, caplog):
    path, name = tmp_path / "a.csv", "L1_1200_0.0001_128_COMA,Loss/COMA/train"
    path.write_bytes(
        b"\xef\xbb\xbf" + (HEADER + f"{name},2,0.5\n{name},1,nan\n{name},2,0.25\n").replace("\n", "\r\n").encode()
    )
    (record,) = read_imported(path)
    assert record.curves["train/loss"][0] == [1, 2] and record.curves["train/loss"][1][1] == 0.25
    assert "1 points given twice" in caplog.text and "1 values are NaN or infinite" in caplog.text


def test_a_missing_file_of_curves(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_imported(tmp_path / "none.csv")


def test_of_two_runs_of_a_cell_the_longer_stays(tmp_path):
    rows = [("08-21-2023_16:51", 1), ("08-21-2023_17:00", 3)]
    text = "".join(
        f"L1_1200_0.0001_128_COMA_{date},Loss/COMA/train,{step},0.{step}\n"
        for date, count in rows
        for step in range(1, count + 1)
    )
    (tmp_path / "a.csv").write_text(HEADER + text)
    (record,) = read_imported(tmp_path / "a.csv")
    assert record.curves["train/loss"][0] == [1, 2, 3]


def test_the_authors_curves(shared_data):
    records = read_imported(shared_data / "author_curves.csv.gz")
    assert [
        sum(r.kind == kind and r.dataset == name for r in records)
        for kind in ("generator", "classifier")
        for name in ("coma", "florence")
    ] == [20, 20, 24, 16]
    best = min(r.best_score() for r in records if r.dataset == "florence" and r.loss == "l2")
    assert best == pytest.approx(9.43e-7, rel=1e-3)


def test_own_runs_are_read_at_any_depth(tmp_path):
    config = {"lr": 0.004, "hidden_size": 8, "epochs": 2, "loss": "l2", "network": "thesis"}
    run = tmp_path / "grid" / "a"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"config": config, "source": {"dataset": "florence"}}))
    (run / "curves.csv").write_text("epoch,tag,value\n1,test/mse,3e-06\n2,test/mse,2e-06\n")
    (tmp_path / "s2d").mkdir()
    (tmp_path / "s2d" / "config.json").write_text('{"config": {"filters": [1]}}')
    (record,) = read_runs(tmp_path)
    assert (record.name, record.kind, record.dataset, record.preset, record.loss) == (
        "a",
        "generator",
        "florence",
        "thesis",
        "l2",
    )
    assert record.best_score() == record.kept_score() == 2e-6
    (run / "metrics.json").write_text('{"mse": 2.5e-06}')
    assert read_runs(tmp_path)[0].kept_score() == 2.5e-6
    told_more = {**config, "network": "coefficients", "controls": True}
    (run / "config.json").write_text(json.dumps({"config": told_more, "source": {"dataset": "florence"}}))
    assert read_runs(tmp_path)[0].dataset == "florence_controls"  # in a table of its own
    (run / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": {"dataset": "../../../tmp/x"}}, "source.dataset to be a name"),
        ({"source": {"dataset": "/tmp/x"}}, "source.dataset to be a name"),
        ({"source": []}, "source to be a dictionary"),
        ({"config": {"loss": "../x"}}, "config.loss to be l1 or l2"),
        ({"config": {"hidden_size": "8"}}, "config.hidden_size to be an integer"),
        ({"config": {"lr": float("nan")}}, "config.lr to be a finite number"),
        ({"config": {"sizes": [1]}}, "config.sizes .*a later version of face4d"),
        ({"metrics": {"mm": "small"}}, "mm to be a finite number"),
        ({"metrics": {"mm": float("inf")}}, "mm to be a finite number"),
        ({"metrics": {"another": [1]}}, "another"),
        ({"metrics": [1]}, "a dictionary, found a list"),
    ],
)
def test_records_of_runs_are_checked(tmp_path, change, words):
    config = {"lr": 0.004, "hidden_size": 8, "epochs": 2, "loss": "l2", "network": "thesis", **change.get("config", {})}
    (tmp_path / "config.json").write_text(
        json.dumps({"config": config, "source": change.get("source", {"dataset": "florence"})})
    )
    (tmp_path / "metrics.json").write_text(json.dumps(change.get("metrics", {"mm": 0.5})))
    with pytest.raises(InputError, match=words):
        read_runs(tmp_path)


def generator(origin, lr, size, values, preset="thesis", **more):
    curves = {"test/l1": ([50 * (k + 1) for k in range(len(values))], values)}
    return RunRecord(
        f"{origin}{lr}{size}", origin, "generator", "florence", preset, lr, size, "l1", curves=curves, **more
    )


def test_comparison_meets_the_same_rate_or_the_better_one():
    records = [
        generator("author", 1e-4, 128, [5.0, 4.0, 6.0]),
        generator("author", 1e-5, 128, [3.0]),
        generator("ours", 1e-4, 128, [4.5]),
        generator("ours", 4e-3, 128, [2.9], preset="default", metrics={"test/l1": 3.5}),
        generator("ours", 4e-3, 512, [1.0], preset="default"),  # no such cell of the author
    ]
    assert groups(records) == [("generator", "florence", "l1")]
    columns, rows = comparison_table(records, groups(records)[0])
    assert [(row["run"], row["ours"], row["theirs"], row["other_lr"], row["better"]) for row in rows] == [
        ("ours0.0001128", 4.5, 4.0, 1e-4, "no"),
        ("ours0.004128", 3.5, 3.0, 1e-5, "no"),
    ]
    assert rows[0]["ratio"] == 4.5 / 4.0 and "layers" not in [column.key for column in columns]
    _, rows = runs_table(records, groups(records)[0])
    assert [row["kept"] if row["kept"] is not None else row["best"] for row in rows] == [1.0, 3.0, 3.5, 4.0, 4.5]


def test_runs_without_scores_are_in_the_table_and_last():
    records = [generator("ours", 1e-4, 128, []), generator("author", 1e-4, 128, [2.0])]
    _, rows = runs_table(records, groups(records)[0])
    assert [row["origin"] for row in rows] == ["author", "ours"]
    assert comparison_table(records, groups(records)[0])[1] == []


def classifier(origin, lr, size, values, layers=2, **more):
    record = RunRecord(
        f"{origin}{lr}x{layers}x{size}", origin, "classifier", "coma", "thesis", lr, size, layers=layers, **more
    )
    record.curves[record.score_tag] = ([50 * (k + 1) for k in range(len(values))], values)
    return record


def test_of_classifiers_the_larger_accuracy_is_better():
    records = [
        classifier("author", 1e-4, 128, [0.5, 0.75, 0.25]),
        classifier("author", 1e-5, 128, [0.9]),
        classifier("author", 1e-4, 256, [0.6], layers=1),
        classifier("ours", 1e-4, 128, [0.7, 0.75]),
        classifier("ours", 1e-4, 256, [0.5], layers=1, metrics={"test/accuracy": 0.55}),
        generator("ours", 1e-4, 128, [4.5]),
    ]
    assert (records[0].best_score(), records[0].kept_score(), records[4].kept_score()) == (0.75, 0.25, 0.55)
    assert groups(records) == [("generator", "florence", "l1"), ("classifier", "coma", "")]  # generators first
    group = groups(records)[1]
    columns, rows = runs_table(records, group)
    assert [row["kept"] if row["kept"] is not None else row["best"] for row in rows] == [0.9, 0.75, 0.75, 0.6, 0.55]
    assert {"layers": "layers", "kept": "test accuracy, weights kept"}.items() <= {
        c.key: c.title for c in columns
    }.items()
    assert {column.best for column in columns if column.key in ("kept", "best")} == {"max"}
    assert {row["layers"] for row in rows} == {1, 2}
    columns, rows = comparison_table(records, group)
    assert [(row["layers"], row["hidden_size"], row["ours"], row["theirs"], row["better"]) for row in rows] == [
        (1, 256, 0.55, 0.6, "no"),
        (2, 128, 0.75, 0.75, "yes"),  # as good
    ]
    assert all(row["ratio"] is None for row in rows) and "ratio" not in [column.key for column in columns]


def test_generators_have_no_layers_and_the_smaller_error_is_better():
    records = [generator("author", 1e-4, 128, [4.0]), generator("ours", 1e-4, 128, [4.0])]
    columns, rows = runs_table(records, groups(records)[0])
    assert "layers" not in [column.key for column in columns] and [row["layers"] for row in rows] == [None, None]
    assert {column.best for column in columns if column.key in ("kept", "best")} == {"min"}
    assert comparison_table(records, groups(records)[0])[1][0]["better"] == "yes"  # as good


def test_others_without_scores_are_met_by_nobody_and_nothing_is_divided_by_zero():
    records = [
        generator("author", 1e-4, 128, []),
        generator("author", 1e-5, 128, [3.0]),
        generator("author", 1e-4, 256, [0.0]),
        generator("ours", 1e-3, 128, [1.5], preset="default", metrics={"test/mm": 0.5, "test/mm_std": 0.25}),
        generator("ours", 1e-3, 256, [1.5], preset="default"),
    ]
    columns, rows = comparison_table(records, groups(records)[0])
    assert [(row["theirs"], row["other_lr"], row["ratio"]) for row in rows] == [(3.0, 1e-5, 0.5), (0.0, 1e-4, None)]
    assert "ratio" in [column.key for column in columns]  # some row has it
    assert {column.key: column.best for column in columns if column.best} == {"ours": "min", "theirs": "min"}
    columns, rows = runs_table(records, groups(records)[0])
    assert {column.key for column in columns if column.best == "min"} == {"kept", "best", "mm", "mm_std"}


def written_run(folder, config, **more):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": config, **more}))


def test_runs_of_other_kinds_are_left_out(tmp_path):
    common = {"lr": 0.001, "hidden_size": 8, "epochs": 2}
    written_run(tmp_path / "a", {**common, "layers": 2, "augment": False, "scale_input": False})
    written_run(
        tmp_path / "b", {**common, "layers": 2, "augment": True, "scale_input": False}, source={"dataset": "coma"}
    )
    written_run(tmp_path / "c", {**common, "layers": 2, "augment": False, "scale_input": True}, source=None)
    written_run(tmp_path / "d", {**common, "filters": [1]})  # neither a generator nor a classifier
    written_run(tmp_path / "e", {"loss": "l1", "network": "thesis"})  # no learning rate
    written_run(tmp_path / "f", None)
    records = read_runs(tmp_path)
    assert [(r.name, r.kind, r.preset, r.layers, r.dataset) for r in records] == [
        ("a", "classifier", "thesis", 2, "unknown"),
        ("b", "classifier", "default", 2, "coma"),
        ("c", "classifier", "default", 2, "unknown"),
    ]


def test_metrics_of_later_versions_are_read_over(tmp_path):
    written_run(tmp_path / "a", {"lr": 0.001, "hidden_size": 8, "epochs": 2, "loss": "l1", "network": "thesis"})
    (tmp_path / "a" / "metrics.json").write_text('{"l1": 0.25, "another": 0.5}')
    assert read_runs(tmp_path)[0].kept_score() == 0.25


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ("0,0.5\n2,0.25\n", None),
        ("1,0.5\n1,0.25\n", ": 1 points given twice, .* 0 values are"),
        ("1,nan\n", "0 points given twice, .* 1 values are"),
    ],
)
def test_notes_on_odd_curves(tmp_path, caplog, rows, note):
    name = "L1_1200_0.0001_128_COMA,Loss/COMA/train,"
    (tmp_path / "a.csv").write_text(HEADER + "".join(name + row + "\n" for row in rows.split()))
    (record,) = read_imported(tmp_path / "a.csv")
    assert len(record.curves) == 1
    if note is None:
        assert not caplog.messages and next(iter(record.curves.values())) == (
            [0, 2],
            [0.5, 0.25],
        )  # epochs count from 0
    else:
        assert re.search(note, caplog.text)


def test_runs_that_are_compared_share_a_test_set():
    records = [generator("author", 1e-4, 128, [2.0]), generator("ours", 1e-4, 128, [3.0], test_set="a")]
    _, rows = runs_table(records, groups(records)[0])
    assert [row["test_set"] for row in rows] == ["a", "a"]  # others' may be where one's own have a single one
    records.append(generator("ours", 1e-4, 256, [4.0], test_set="b"))
    _, rows = runs_table(records, groups(records)[0])
    assert [row["test_set"] for row in rows] == [None, "a", "b"]
    unknown = [generator("ours", 1e-4, 128, [2.0])]
    assert runs_table(unknown, groups(unknown)[0])[1][0]["test_set"] == "one"
