"""Which embedding of the 468 points belongs to a model: its own file's, the package's, the demo head's."""

import re

import numpy as np
import pytest

from face4d.demo.head import demo_head
from face4d.errors import InputError
from face4d.landmarks import load_embedding
from face4d.registration.embeddings import POINT_FILE, demo_point_embedding, point_embedding_of
from face4d.synthetic.point_embedding import load_point_embedding, save_point_embedding


@pytest.mark.parametrize("level", [0, 1])
def test_the_demo_head_is_known_at_any_level(tmp_path, level):
    head = demo_head(level)
    embedding = point_embedding_of(tmp_path, len(head.mean), head.faces)
    assert embedding.fits(len(head.mean), head.faces) and embedding.points(head.mean, head.faces, 20).shape == (468, 3)


def test_a_file_beside_the_model_comes_first(tmp_path):
    head = demo_head(0)
    own = demo_point_embedding(0)
    own.spread[:] = 0.123
    save_point_embedding(tmp_path / POINT_FILE, own)
    for path in (tmp_path, tmp_path / "generic_model.npz"):
        assert np.allclose(point_embedding_of(path, len(head.mean), head.faces).spread, 0.123)
    with pytest.raises(
        InputError, match=rf"{POINT_FILE}: expected the 468 points on the model .* found those of another"
    ):
        point_embedding_of(tmp_path, len(head.mean), head.faces[:, ::-1])


def test_flames_is_in_the_package(tmp_path, shared_data):
    landmarks = load_embedding(shared_data / "flame_assets" / "landmark_embedding_68.npz")
    found = point_embedding_of(tmp_path, landmarks.num_vertices, landmarks.faces)
    assert found.checksum == load_point_embedding("flame").checksum


def test_without_any_the_command_that_measures_it(tmp_path):
    faces = demo_head(0).faces[:, ::-1]
    with pytest.raises(InputError, match=re.escape(f"--output {tmp_path / POINT_FILE}")):
        point_embedding_of(tmp_path, 871, faces)
