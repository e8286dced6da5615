import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from face4d.view.plots import confusion_matrix_figure, save_figure

MATRIX = np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]])


def test_confusion_matrix_shows_every_count_and_label():
    figure = confusion_matrix_figure(MATRIX, ["Happy", "Rage", "Scream"], title="generated")
    axes = figure.axes[0]
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {((0, 0), "3"), ((2, 0), "1"), ((1, 1), "4")}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [tick.get_text() for tick in axes.get_yticklabels()]
    # an empty row is no division by zero
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0, 0.25], [0, 1, 0], [0, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "generated")
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        confusion_matrix_figure(MATRIX, ["a", "b"])


def test_figures_are_written_as_png_and_pdf_and_always_the_same(tmp_path):
    for name in ("a", "b"):
        paths = save_figure(confusion_matrix_figure(MATRIX, ["x", "y", "z"]), tmp_path / name)
    assert [path.name for path in paths] == ["b.png", "b.pdf"]
    assert (tmp_path / "a.pdf").read_bytes() == paths[1].read_bytes()
    assert paths[1].read_bytes().startswith(b"%PDF")
    with Image.open(paths[0]) as picture:
        assert min(picture.size) > 300
    assert len(list(tmp_path.iterdir())) == 4  # nothing half-written beside them


def test_no_pyplot_and_no_global_style():
    code = (
        "import matplotlib, sys; style = lambda: [matplotlib.rcParams[key] for key in STYLE]; import numpy as np;"
        "from face4d.view.plots import *; before = style();"
        "confusion_matrix_figure(np.eye(2), ['a', 'b']);"
        "assert 'matplotlib.pyplot' not in sys.modules; assert style() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
