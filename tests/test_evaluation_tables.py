from face4d.evaluation.tables import Column, csv_table, markdown_table, text_table, write_table

COLUMNS = (Column("name", "name"), Column("error", "error (mm)", ".1f", best="min"), Column("share", "share", ".0%", best="max"))
ROWS = [
    {"name": "real", "share": 1.0},
    {"name": "a|b", "error": 1.26, "share": 0.5},
    {"name": "c", "error": 1.34, "share": 0.75},
    {"name": "d", "error": 2.0, "share": 0.1},
]


def test_markdown_sets_the_best_as_printed_in_bold():
    text = markdown_table(COLUMNS, ROWS, contest=[False, True, True, True])
    assert text.splitlines() == [
        "| name | error (mm) | share |",
        "| --- | ---: | ---: |",
        "| real |  | 100% |",
        "| a\\|b | **1.3** | 50% |",  # 1.26 and 1.34 look the same, so both are best
        "| c | **1.3** | **75%** |",
        "| d | 2.0 | 10% |",
    ]


def test_without_contest_all_rows_compete():
    assert "**100%**" in markdown_table(COLUMNS, ROWS)


def test_csv_keeps_full_precision():
    assert csv_table(COLUMNS, ROWS).splitlines() == ["name,error,share", "real,,1.0", "a|b,1.26,0.5", "c,1.34,0.75", "d,2.0,0.1"]


def test_text_is_aligned():
    lines = text_table(COLUMNS, ROWS).splitlines()
    assert lines[0] == "name  error (mm)  share"
    assert lines[3] == "a|b          1.3    50%"


def test_write_table_writes_both_files(tmp_path):
    paths = write_table(tmp_path / "deep" / "scores.v1", COLUMNS, ROWS)
    assert [path.name for path in paths] == ["scores.v1.csv", "scores.v1.md"]
    assert paths[0].read_text() == csv_table(COLUMNS, ROWS)
