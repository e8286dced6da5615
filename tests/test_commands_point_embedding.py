"""python -m face4d point-embedding: from neutral heads to the file that fits read."""

import numpy as np
import pytest

from face4d.commands.point_embedding import main
from face4d.demo.expressions import deform, weights_of
from face4d.demo.head import demo_head, identity_weights
from face4d.errors import InputError
from face4d.mesh.geometry import head_rotation
from face4d.mesh.ply import write_ply
from face4d.photos import face_networks
from face4d.synthetic import head_views, point_embedding
from face4d.synthetic.point_embedding import HeadView, load_point_embedding


@pytest.fixture
def heads(tmp_path):
    head = demo_head()
    (tmp_path / "heads").mkdir()
    for subject in range(4):
        write_ply(tmp_path / "heads" / f"S{subject}.ply", head.neutral(identity_weights(1, subject)), head.faces)
    from face4d.demo.flame import dynamic_embedding, static_embedding
    from face4d.landmarks import LandmarkEmbedding, save_embedding

    (static, weights), (contour, shares) = static_embedding(head), dynamic_embedding(head)
    save_embedding(
        tmp_path / "marks.npz",
        LandmarkEmbedding(
            np.concatenate([contour[0], static]),
            np.concatenate([shares[0], weights]),
            head.faces,
            len(head.neutral(0 * identity_weights(1, 0))),
        ),
    )
    return tmp_path


def flags(folder):
    return [
        str(folder / "heads"),
        "--landmark-embedding",
        str(folder / "marks.npz"),
        "--output",
        str(folder / "out.npz"),
        "--quiet",
    ]


def test_heads_become_an_embedding_and_a_table(heads, monkeypatch, capsys):
    head = demo_head()
    true = np.random.default_rng(0).integers(0, 200, point_embedding.NUM_POINTS)

    def seen(given, faces, seed, neutral):
        assert len(neutral) == len(given) and all(one is neutral[0] for one in neutral)
        for number, (vertices, landmarks) in enumerate(given):
            assert landmarks.shape == (68, 3) and len(faces) == len(head.faces)
            for yaw in head_views.YAWS:
                placed = (vertices @ head_rotation(yaw, 0).T)[:, :2]
                yield HeadView(number, yaw, placed, np.ones(len(placed), bool), placed[true])
            yield None

    monkeypatch.setattr(face_networks, "installed", lambda: True)
    monkeypatch.setattr(head_views, "head_views", seen)
    monkeypatch.setattr(head_views, "YAWS", (0, 30))
    main(flags(heads))
    told = capsys.readouterr().out
    assert "4 heads, 8 of 12 pictures" in told and told.splitlines()[-1].startswith("wrote ")
    assert load_point_embedding(heads / "out.npz").fits(len(head.neutral(0 * identity_weights(1, 0))), head.faces)
    with pytest.raises(InputError, match="--overwrite"):
        main(flags(heads))


@pytest.mark.parametrize("opened", [False, True])
def test_heads_that_all_close_the_mouth_are_a_note(heads, monkeypatch, caplog, opened):
    head = demo_head()
    if opened:
        write_ply(heads / "heads" / "S3.ply", deform(head, head.mean, weights_of("mouth_open")), head.faces)
    monkeypatch.setattr(face_networks, "installed", lambda: True)
    monkeypatch.setattr(head_views, "head_views", lambda *given: iter(()))
    with pytest.raises(InputError, match="heads that the network takes for faces"):
        main(flags(heads))
    assert ("no head opens its mouth" in caplog.text) is not opened


def test_without_the_networks_the_line_to_type(heads, monkeypatch):
    monkeypatch.setattr(face_networks, "installed", lambda: False)
    with pytest.raises(
        InputError, match="point-embedding: expected the networks .* python -m pip install ai-edge-litert"
    ):
        main(flags(heads))


def test_one_head_is_not_enough(heads, monkeypatch):
    monkeypatch.setattr(face_networks, "installed", lambda: True)
    only = flags(heads)
    only[0] = str(heads / "heads" / "S0.ply")
    with pytest.raises(InputError, match="expected two heads or more"):
        main(only)
