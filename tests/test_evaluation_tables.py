import pytest

from face4d.evaluation.tables import (
    Column,
    average,
    csv_table,
    filled,
    html_table,
    latex_table,
    markdown_table,
    table_row,
    text_table,
    write_decoder_tables,
    write_table,
)

COLUMNS = (
    Column("name", "name"),
    Column("error", "error (mm)", ".1f", best="min"),
    Column("share", "share", ".0%", best="max"),
)
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


def test_words_in_a_column_of_numbers_are_shown_as_they_are_and_align_it_left():
    rows = [{"name": "a", "error": 1.26, "share": None}, {"name": "b", "error": "none"}]
    lines = ["| name | error (mm) | share |", "| --- | --- | --- |", "| a | 1.3 |  |", "| b | none |  |"]
    columns = [Column(column.key, column.title, column.form) for column in COLUMNS]
    assert markdown_table(columns, rows).splitlines() == lines
    assert latex_table(columns, rows).splitlines()[1] == r"\begin{tabular}{lll}"


def test_csv_keeps_full_precision():
    assert csv_table(COLUMNS, ROWS).splitlines() == [
        "name,error,share",
        "real,,1.0",
        "a|b,1.26,0.5",
        "c,1.34,0.75",
        "d,2.0,0.1",
    ]


def test_text_is_aligned():
    lines = text_table(COLUMNS, ROWS).splitlines()
    assert lines[0] == "name  error (mm)  share"
    assert lines[3] == "a|b          1.3    50%"


def test_latex_has_booktabs_rules_escapes_and_bold_numbers():
    columns = (*COLUMNS, Column("mse", "MSE (m²)", ".1e", best="min"))
    rows = [ROWS[0], {"name": "a_b & c", "error": 1.26, "share": 0.5, "mse": 8.2e-7}, {**ROWS[2], "mse": 1e-5}]
    assert latex_table(columns, rows, contest=[False, True, True]).splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"name & error (mm) & share & MSE (m\textsuperscript{2}) \\",
        r"\midrule",
        r"real &  & 100\% &  \\",
        r"a\_b \& c & \textbf{1.3} & 50\% & $\mathbf{8.2 \times 10^{-7}}$ \\",
        r"c & \textbf{1.3} & \textbf{75\%} & $1.0 \times 10^{-5}$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_columns_that_compete_within_a_row():
    columns = [Column("label", "label"), Column("n", "n"), Column("a", "a", ".1f"), Column("b", "b", ".1f")]
    rows = [
        {"label": "Happy", "n": 0, "a": 1.0, "b": 2.0},
        {"label": "Rage", "n": 0, "a": 3.04, "b": 3.0},
        {"label": "Cool", "n": 0, "b": 5.0},
    ]
    lines = markdown_table(columns, rows, across=("a", "b")).splitlines()[2:]
    assert lines == ["| Happy | 0 | **1.0** | 2.0 |", "| Rage | 0 | **3.0** | **3.0** |", "| Cool | 0 |  | 5.0 |"]
    largest = [Column("label", "label"), *(Column(key, key, ".1f", best="max") for key in "ab")]
    assert markdown_table(largest, rows[:1], across=("a", "b")).splitlines()[2] == "| Happy | 1.0 | **2.0** |"


def test_only_what_can_be_compared_competes():
    errors = {"coma a": 3.0, "coma b": 4.0, "florence a": 1.0, "florence b": 2.0, "demo": 0.1, "real": 0.0}
    rows = [{"name": name, "error": error} for name, error in errors.items()]
    contest = ["coma", "coma", "florence", "florence", "demo", None]
    for table, opened in (
        (markdown_table, "**{}**"),
        (html_table, "<strong>{}</strong>"),
        (latex_table, r"\textbf{{{}}}"),
    ):
        text = table(COLUMNS[:2], rows, contest=contest)
        assert [opened.format(value) in text for value in ("3.0", "4.0", "1.0", "2.0", "0.1", "0.0")] == [
            True,
            False,
            True,
            False,
            False,
            False,
        ]
        assert opened.format("0.1") not in table(COLUMNS[:2], rows[4:5])


def test_filled_leaves_out_columns_without_a_value():
    assert [column.key for column in filled(COLUMNS, [{"name": "real", "error": None, "share": 0.0}])] == [
        "name",
        "share",
    ]
    assert filled(COLUMNS, ROWS) == list(COLUMNS)  # a value in some row is enough: the first has no error


def test_write_table_writes_all_three_files(tmp_path):
    paths = write_table(tmp_path / "deep" / "scores.v1", COLUMNS, ROWS)
    assert [path.name for path in paths] == ["scores.v1.csv", "scores.v1.md", "scores.v1.tex"]
    for path, table in zip(paths, (csv_table, markdown_table, latex_table)):
        assert path.read_text() == table(COLUMNS, ROWS)


def test_written_tables_have_the_contest_and_the_columns_that_compete_within_a_row(tmp_path):
    columns = [Column("name", "name"), Column("a", "a", ".1f", best="min"), Column("b", "b", ".1f"), COLUMNS[2]]
    rows = [
        {"name": "x", "a": 1.0, "b": 2.0, "share": 0.9},
        {"name": "y", "a": 4.0, "b": 3.0, "share": 0.5},
        {"name": "z", "a": 3.5, "share": 0.7},
    ]
    _, markdown, latex = write_table(tmp_path / "scores", columns, rows, contest=[False, 1, 1], across=("a", "b"))
    lines = markdown.read_text().splitlines()[2:]
    # a and b compete within each row, and not with the other rows; the shares of the second and third row with each
    # other
    assert lines == ["| x | **1.0** | 2.0 | 90% |", "| y | 4.0 | **3.0** | 50% |", "| z | 3.5 |  | **70%** |"]
    bold = [
        [cell.strip().startswith(r"\textbf") for cell in line.split("&")]
        for line in latex.read_text().splitlines()[5:8]
    ]
    assert bold == [[False, True, False, False], [False, False, True, False], [False, False, False, True]]


def test_text_has_a_rule_under_the_headings_as_wide_as_the_columns():
    assert text_table(COLUMNS[:2], ROWS[1:3]).splitlines() == [
        "name  error (mm)",
        "----  ----------",
        "a|b          1.3",
        "c            1.3",
    ]


def test_html_has_cells_of_numbers_and_escapes():
    columns = [*COLUMNS[:2], Column("note", "note <x>")]
    rows = [{"name": "a & b", "error": 1.0, "note": "<i>"}, {"name": "c", "error": 2.0}]
    assert html_table(columns, rows).splitlines() == [
        "<table>",
        '<thead><tr><th>name</th><th class="number">error (mm)</th><th>note &lt;x&gt;</th></tr></thead>',
        "<tbody>",
        '<tr><td>a &amp; b</td><td class="number"><strong>1.0</strong></td><td>&lt;i&gt;</td></tr>',
        '<tr><td>c</td><td class="number">2.0</td><td></td></tr>',
        "</tbody>",
        "</table>",
    ]


def test_decoders_are_averaged_over_their_folds():
    rows = [
        {"decoder": "ridge", "fold": "1", "mm": 1.0, "mm_std": 0.5, "frames": 10, "seconds": 2.0, "strength": 0.1},
        {"decoder": "rbf", "fold": "1", "mm": 3.0, "mm_std": 0.1, "frames": 10},
        {"decoder": "ridge", "fold": "2", "mm": 2.0, "mm_std": 0.7, "frames": 30, "strength": 0.1},
    ]
    (mean,) = average(rows)  # of one fold there is no mean
    assert (mean["decoder"], mean["fold"], mean["mm"], mean["frames"]) == ("ridge", "mean of 2", 1.5, 40)
    assert mean["mm_std"] == pytest.approx(0.6) and "seconds" not in mean and "strength" not in mean


def test_tables_of_decoders_compare_within_a_fold(tmp_path):
    metrics = {"a": (1.0, 4.0), "b": (2.0, 3.0)}
    rows = [
        table_row(decoder, str(fold), {"mm": mm}) for decoder, own in metrics.items() for fold, mm in enumerate(own)
    ]
    paths = write_decoder_tables(tmp_path, rows)
    assert sorted(path.name for path in paths) == ["decoders.csv", "decoders.md", "decoders.tex"]
    bold = [line.split(" | ")[:2] for line in (tmp_path / "decoders.md").read_text().splitlines() if "**" in line]
    assert bold == [["| a", "0"], ["| b", "1"]]
