"""Curves, strips, galleries, figures of scores, the page, and figures.py with all of it."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from face4d.errors import InputError
from face4d.evaluation.comparison import runs_table
from face4d.evaluation.results import Scored
from face4d.evaluation.run_records import RunRecord
from face4d.render.landmarks import PALETTE, Tile, contact_sheet, write_contact_sheet
from face4d.view import figure_set
from face4d.view.curves import curve_panels, exponential_average, score_by_size, spans_decades
from face4d.view.figure_set import all_score_rows
from face4d.view.report import Section, embedded, page
from face4d.view.score_plots import error_over_time, feature_plane, landmark_errors, principal_plane, strip
from tests.conftest import REPOSITORY, toy_sequence, write_landmarks


def record(origin, preset, lr, size, loss="l1", tags=("test/l1", "train/loss")):
    curves = {tag: ([1, 2, 3], [0.3, 0.2, 0.1 * size / 128]) for tag in tags}
    return RunRecord(f"{origin}_{lr}_{size}", origin, "generator", "florence", preset, lr, size, loss, curves=curves)


RECORDS = [
    record("ours", "default", 4e-3, 128),
    record("author", "thesis", 1e-4, 128),
    record("author", "thesis", 1e-4, 256),
    record("author", "thesis", 1e-5, 128, "l2", ("test/mse",)),
]


def test_panels_stand_for_loss_and_learning_rate_and_colours_for_size():
    figure = curve_panels(RECORDS)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["thesis, lr 0.0001", "thesis, lr 1e-05", "default, lr 0.004"] and len(figure.axes) == 6
    first, own = figure.axes[0], figure.axes[2]
    assert len(first.lines) == 2 and first.lines[0].get_color() != first.lines[1].get_color()
    assert first.lines[0].get_linestyle() != first.lines[1].get_linestyle()
    assert (
        first.lines[0].get_color() == own.lines[0].get_color()
        and own.lines[0].get_linewidth() > first.lines[0].get_linewidth()
    )
    assert first.get_ylim() == own.get_ylim() and first.get_yscale() == "linear"
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["L1: test L1 (m)", "L2: test MSE (m²)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["H 128", "H 256", "ours", "author"]


def test_accuracies_go_from_nothing_to_all():
    curves = {"test/accuracy": ([1, 2], [0.05, 1.0])}
    (axes,) = curve_panels(
        [RunRecord("c", "ours", "classifier", "florence", "thesis", 1e-4, 128, layers=1, curves=curves)]
    ).axes
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] < 0 < 1 < axes.get_ylim()[1] < 1.1


def test_axes_are_logarithmic_where_values_span_much():
    assert spans_decades([1.0, 5.0]) and not spans_decades([1.0, 3.0])
    assert not spans_decades([0.0, 5.0]) and not spans_decades([]) and not spans_decades([1.0, float("inf")])
    wide = RunRecord(
        "w", "ours", "generator", "florence", "thesis", 1e-4, 64, "l1", curves={"test/l1": ([1, 2], [9.0, 0.1])}
    )
    assert {axes.get_yscale() for axes in curve_panels([*RECORDS, wide]).axes[:3]} == {"log"}


def test_smoothed_training_loss_lies_over_the_raw_curve():
    figure = curve_panels(RECORDS, "train/loss", smoothing=0.2)
    raw, smooth = figure.axes[0].lines[:2]
    np.testing.assert_allclose(raw.get_ydata(), [0.3, 0.2, 0.1])
    np.testing.assert_allclose(smooth.get_ydata(), [0.3, 0.22, 0.124])
    assert raw.get_alpha() < 0.5 and curve_panels(RECORDS, "unknown/tag") is None


def test_score_by_size_counts_others_best_and_own_kept():
    figure = score_by_size(RECORDS[:3], references={"class mean": 0.15}, quantity="test L1 (m)")
    lines = {line.get_label(): line for line in figure.axes[0].lines if not line.get_label().startswith("_")}
    assert list(lines) == ["ours, default, lr 0.004", "author, thesis, lr 0.0001"]
    np.testing.assert_allclose(lines["author, thesis, lr 0.0001"].get_ydata(), [0.1, 0.2])
    assert figure.axes[0].texts[0].get_text() == "class mean" and score_by_size([]) is None


def test_strip_has_six_frames_twice_in_the_same_limits():
    real, generated = toy_sequence(0, 0, 13), toy_sequence(1, 0, 13)
    figure = strip(real, generated, title="Happy, CH01")
    assert len(figure.axes) == 12
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1
    left, right = figure.axes[0].get_xlim()
    assert left < min(real[..., 0].min(), generated[..., 0].min()) and right > max(
        real[..., 0].max(), generated[..., 0].max()
    )
    assert all(axes.get_aspect() == 1 for axes in figure.axes)
    assert [axes.get_title() for axes in figure.axes[:6]] == [f"frame {k}" for k in (0, 2, 5, 7, 10, 12)]
    error = np.linalg.norm(generated[5] - real[5], axis=1).mean() * 1000
    assert figure.axes[8].get_xlabel() == f"{error:.2f} mm"
    assert (figure.axes[0].get_ylabel(), figure.axes[6].get_ylabel()) == ("ground truth", "generated")
    with pytest.raises(ValueError, match="one shape"):
        strip(real, generated[:5])


def test_contact_sheet_moves_every_tile_in_one_scale(tmp_path):
    tiles = [Tile(f"label {k}", toy_sequence(k, 0, 9), toy_sequence(k, 0, 7)) for k in range(5)]
    sheet = contact_sheet(tiles, columns=2, height=60)
    assert sheet.dtype == np.uint8 and len(sheet) == 9 and sheet.max() < len(PALETTE)
    rows = np.flatnonzero((sheet[0] != sheet[4]).any(axis=1))
    columns = np.flatnonzero((sheet[0] != sheet[4]).any(axis=0))
    assert np.ptp(rows) > 0.7 * sheet.shape[1] and np.ptp(columns) > 0.7 * sheet.shape[2]  # all over the sheet
    write_contact_sheet(tmp_path / "a.gif", tiles, columns=2, height=60)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.size == sheet.shape[:0:-1] and picture.n_frames == 9


def test_error_over_time_and_on_the_face():
    figure = error_over_time({"generated": [1.0, 2.0], "class mean": [2.0, 1.0]})
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 2])  # frame 0 is given, not generated
    assert axes.get_ylim()[0] == 0 and axes.lines[0].get_color() != axes.lines[1].get_color()
    face = toy_sequence(0, 0, 5)[0]
    figure = landmark_errors(face, {"generated": [1.0] * 68, "class mean": [3.0] * 68})
    clouds = [axes.collections[-1] for axes in figure.axes[:2]]
    assert {cloud.get_clim() for cloud in clouds} == {(0, 3.0)}
    np.testing.assert_allclose(clouds[0].get_offsets(), face[:, :2])
    with pytest.raises(ValueError, match="68"):
        landmark_errors(face, {"generated": [1.0] * 51})


def test_principal_plane_by_hand():
    points = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 0, 1], [0, 0, -1]]) + 5
    mean, directions, shares = principal_plane(points)
    np.testing.assert_allclose(mean, [5, 5, 5])
    np.testing.assert_allclose(directions, [[1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(shares, [0.9, 0.1])


def test_feature_plane_marks_labels_and_methods_apart():
    features = {
        "real": np.random.default_rng(0).normal(size=(24, 6)),
        "generated": np.random.default_rng(1).normal(size=(24, 6)),
    }
    names = [f"label{k}" for k in range(12)]
    figure = feature_plane(features, np.arange(24) % 12, names)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [*names, "real", "generated"]
    handles = figure.legends[0].legend_handles[:12]
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 12


class Outside(HTMLParser):
    """Collects addresses a page would fetch, and tags that are not closed."""

    def __init__(self):
        super().__init__()
        self.fetched, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.fetched += [
            value for name, value in attributes if name in ("src", "href") and not value.startswith(("data:", "#"))
        ]
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_self_contained(text):
    """Addresses in scripts are left to tests/test_view_page.py, which opens such pages in a browser."""
    parser = Outside()
    parser.feed(text)
    assert parser.fetched == [] and parser.open == []
    text = re.sub(r"<script[ >].*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|@import|url\(", text) and "<script" not in text and 'name="viewport"' in text


def test_page_is_self_contained_and_escapes(tmp_path):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "a.png")
    section = Section("A & B")
    section.text("<script>alert(1)</script>")
    section.blocks.append(embedded(tmp_path / "a.png", 'a "red" picture'))
    section.details("more", "{}")
    text = page("Title", "intro", [section])
    check_self_contained(text)
    assert "A &amp; B" in text and "&lt;script&gt;" in text and 'alt="a &quot;red&quot; picture"' in text


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working folder after steps 3 to 6, made by hand: landmarks, one run, one generated folder, one record of its
    scoring."""
    monkeypatch.chdir(tmp_path)
    write_landmarks(tmp_path / "Landmark_dataset_flame_aligned", ("Happy", "Rage"), ("CH01", "CH03"), 9)
    place = tmp_path / "Generated_Animation" / "mine"
    for label in range(2):
        name = ("Happy", "Rage")[label]
        folder = place / f"CH01_{name}"
        folder.mkdir(parents=True)
        np.save(folder / f"{name}_CH01.npy", toy_sequence(label, 0, 9))
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    config = {"lr": 0.004, "hidden_size": 128, "epochs": 2, "loss": "l1", "network": "coefficients"}
    (run / "config.json").write_text(json.dumps({"config": config, "source": {"dataset": "florence"}}))
    (run / "curves.csv").write_text(
        "epoch,tag,value\n1,train/loss,0.5\n1,test/l1,0.0004\n2,train/loss,0.4\n2,test/l1,0.0003\n"
    )
    (run / "metrics.json").write_text('{"l1": 0.0003, "mm": 0.7, "mm_std": 1.2, "seconds": 3}')
    results = tmp_path / "results" / "mine"
    results.mkdir(parents=True)
    methods = {"generated": 1.0, "class mean": 2.0}
    evaluation = {
        "generated": "Generated_Animation/mine",
        "classifier": "models/c.pt",
        "landmarks": "Landmark_dataset_flame_aligned",
        "labels": ["Happy", "Rage"],
        "scores": [
            {"method": "real", "accuracy": 1.0},
            *({"method": m, "accuracy": 0.5, "mm_mean": v, "l1": v / 3000} for m, v in methods.items()),
        ],
        "per_label": [
            {
                "label": "Happy",
                "real accuracy": 1.0,
                "generated accuracy": 0.5,
                "generated mm_mean": 1.0,
                "class mean mm_mean": 2.0,
            }
        ],
        "over_time": {m: [v] * 8 for m, v in methods.items()},
        "per_landmark": {m: [v] * 68 for m, v in methods.items()},
        "confusion": {"real": [[1, 0], [0, 1]], "generated": [[1, 0], [1, 0]]},
    }
    (results / "evaluate.json").write_text(json.dumps(evaluation))
    np.savez(results / "features.npz", real=np.eye(4)[:2], generated=np.eye(4)[2:], labels=np.arange(2))
    return tmp_path


def figures(*arguments):
    runpy.run_path(str(REPOSITORY / "figures.py"))["main"](["--quiet", *map(str, arguments)])


def test_everything_from_one_command(workplace):
    (workplace / "author_curves.csv").write_text(
        "run,tag,step,value\nL1_1200_0.0001_128_COMA_Florence,Loss/COMA_Florence/validation,50,0.0006\n"
    )
    np.savez(
        workplace / "results" / "mine" / "features.npz", real=np.eye(4), generated=np.eye(4), labels=np.arange(4) % 2
    )
    figures("--import-curves", "author_curves.csv")
    output = workplace / "figures"
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    pictures = [
        "curves/generator_florence_l1_by_size",
        "curves/generator_florence_test",
        "curves/generator_florence_training",
    ]
    pictures += [
        f"mine/{name}"
        for name in (
            "error_over_time",
            "landmark_errors",
            "confusion_real",
            "confusion_generated",
            "features",
            "strips/Happy_CH01",
            "strips/Rage_CH01",
        )
    ]
    tables = ["scores", "mine_per_label", "generator_florence_l1_runs", "generator_florence_l1_comparison"]
    expected = {f"{name}.{suffix}" for name in pictures for suffix in ("png", "pdf")} | {
        f"tables/{name}.{suffix}" for name in tables for suffix in ("csv", "md", "tex")
    }
    assert names == expected | {"mine/gallery.gif", "report.html"}
    assert "| 128 | mine | 3.000e-04 | author | 0.0001 | 6.000e-04 | 0.50 | yes |" in (
        output / "tables" / "generator_florence_l1_comparison.md"
    ).read_text().replace("**", "")
    text = (output / "report.html").read_text()
    check_self_contained(text)
    assert text.count("data:image/png;base64,") == len(pictures) and text.count("data:image/gif;base64,") == 1
    assert "coefficients" in text and text.count("<table>") == len(tables)
    with pytest.raises(InputError, match="--overwrite"):
        figures()


@pytest.mark.parametrize(
    ("folder", "words"),
    [("nowhere", "nowhere: expected a folder for --landmarks"), ("runs", "runs: expected landmarks of sequences")],
)
def test_ground_truth_that_is_none_is_named(workplace, folder, words):
    with pytest.raises(InputError, match=words):
        figures("--landmarks", "Landmark_dataset_flame_aligned", folder)
    assert not (workplace / "figures").exists()


def test_every_scoring_is_held_in_the_page_the_newest_first_while_there_is_room(workplace, monkeypatch):
    older, newer = workplace / "results" / "mine", workplace / "results" / "new run"
    shutil.copytree(older, newer)
    os.utime(older / "evaluate.json", (1, 1))
    figures("--only", "galleries", "strips", "report")
    page = workplace / "figures" / "report.html"
    text = page.read_text()
    check_self_contained(text)
    assert text.count("data:image/") == 6 and text.index(">new run<") < text.index(">mine<") and "too large" not in text
    monkeypatch.setattr(
        figure_set.FigureSet, "_room", sum(map(len, re.findall("<figure>.*</figure>\n", text))) // 2 + 200
    )
    figures("--only", "galleries", "strips", "report", "--overwrite")
    text = page.read_text()
    check_self_contained(text)
    assert (
        text.count("data:image/") == 3
        and "3 pictures of this scoring are not in this page" in text.partition('id="part1"')[2]
    )


def scoring(folder, name, classifier, static, generated):
    """A scoring with an error of the static neutral, which the test set decides, and one of what was generated."""
    rows = [{"method": "real", "accuracy": 1.0}, {"method": "generated", "accuracy": 1.0, "mm_mean": generated}]
    rows.append({"method": "static neutral", "accuracy": 0.1, "mm_mean": static})
    return Scored(
        name, folder / name, {"scores": rows, "labels": ["a"], "classifier": classifier, "sequences": 2, "frames": 9}
    )


def test_scores_compete_on_one_test_set_only(tmp_path):
    others = [scoring(tmp_path, "florence", "f.pt", 3.0, 0.7), scoring(tmp_path, "judge", "g.pt", 2.0, 0.1)]
    rows = all_score_rows(
        [scoring(tmp_path, "one", "c.pt", 2.0, 0.5), scoring(tmp_path, "two", "c.pt", 2.0, 0.6), *others]
    )
    contest = {(row["result"], row["method"]): row["test_set"] for row in rows}
    assert contest["one", "generated"] == contest["two", "generated"] == contest["one, two", "static neutral"]
    assert len({contest[name, "generated"] for name in ("one", "florence", "judge")}) == 3


def test_one_run_alone_is_not_the_best_and_runs_of_other_test_sets_do_not_compete():
    own = RunRecord(
        "a", "ours", "generator", "coma", "default", 0.004, 128, "l2", curves={"test/mse": ([1], [3e-7])}, test_set="x"
    )
    others = [replace(own, name="b", test_set="y"), replace(own, name="c", origin="author", test_set=None)]
    group = ("generator", "coma", "l2")
    assert [row["test_set"] for row in runs_table([own, others[1]], group)[1]] == ["x", "x"]
    assert [row["test_set"] for row in runs_table([own, *others], group)[1]] == ["x", "y", None]


def test_a_figure_of_one_size_tells_names_and_numbers():
    own = RunRecord("a", "ours", "generator", "demo", "default", 0.004, 128, "l2", curves={"test/mse": ([1], [3e-7])})
    figure = score_by_size([own], references={"static neutral": 6e-6}, title="t", quantity="test MSE (m²)")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ours, default, lr 0.004, H 128", "static neutral"]
    assert {text.get_text() for text in axes.texts} == {"3e-07", "6e-06"} and not figure.legends
    (axes,) = curve_panels([own]).axes  # a run of one epoch
    assert axes.get_xlim() == (0, 2)


def test_records_of_earlier_versions_and_lost_folders_are_enough(workplace):
    path = workplace / "results" / "mine" / "evaluate.json"
    content = json.loads(path.read_text())
    path.write_text(
        json.dumps({**{key: content[key] for key in ("labels", "scores")}, "generated": "Generated_Animation/gone"})
    )
    (workplace / "results" / "mine" / "features.npz").unlink()
    figures("--output", "out")
    assert (workplace / "out" / "report.html").is_file() and (workplace / "out" / "tables" / "scores.tex").is_file()
    assert not list((workplace / "out").glob("mine/**/*.png"))


def test_only_some_families_and_every_subject(workplace):
    folder = workplace / "Generated_Animation" / "mine" / "CH03_Happy"
    folder.mkdir()
    np.save(folder / "Happy_CH03.npy", toy_sequence(0, 1, 9))
    figures("--only", "strips", "--every-subject")
    names = {path.name for path in (workplace / "figures").rglob("*.pdf")}
    assert (
        names == {"Happy_CH01.pdf", "Happy_CH03.pdf", "Rage_CH01.pdf"}
        and not (workplace / "figures" / "report.html").exists()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--import-curves", "none.csv"], ["none.csv", "no such file"]),
        (["--results", "elsewhere"], ["elsewhere", "no such folder"]),
        (["--runs", "Generated_Animation", "--results", "runs", "--generated", "runs"], ["runs", "none"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(workplace, arguments, words):
    with pytest.raises(InputError) as caught:
        figures(*arguments)
    assert all(word in str(caught.value) for word in words)
    assert not (workplace / "figures").exists()


@pytest.mark.parametrize("content", ["[]", '{"scores": 3, "labels": []}', '{"scores": [{}], "labels": []}', "{"])
def test_damaged_records_of_scorings_are_named(workplace, content):
    (workplace / "results" / "mine" / "evaluate.json").write_text(content)
    with pytest.raises(InputError, match="evaluate.json"):
        figures()


def test_damaged_features_are_named(workplace):
    path = workplace / "results" / "mine" / "features.npz"
    for content in (b"no archive", None):
        if content:
            path.write_bytes(content)
        else:
            np.savez(path, real=np.zeros((3, 2)), labels=np.arange(2))
        with pytest.raises(InputError, match="features.npz"):
            figures()


def test_help_loads_no_torch_and_no_matplotlib():
    code = (
        f"import runpy, sys; runpy.run_path({str(REPOSITORY / 'figures.py')!r}); print({{'torch', "
        "'matplotlib'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_exponential_average_by_hand():
    np.testing.assert_allclose(exponential_average([4, 2, 2], 0.5), [4, 3, 2.5])
    np.testing.assert_allclose(exponential_average([4, 2, 2], 0.0), [4, 2, 2])
    assert len(exponential_average([], 0.2)) == 0
