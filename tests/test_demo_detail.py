"""The demo head drawn finer, against the formula evaluated on the fine head."""

import numpy as np
import pytest

from face4d.constants import COMA_LABELS, FLORENCE_LABELS
from face4d.demo.detail import finer_head
from face4d.demo.expressions import deform, weights_of
from face4d.demo.head import EYE, SKIN, TEETH, demo_head, identity_weights
from face4d.demo.write import sequence_weights
from face4d.mesh.geometry import fit_similarity

COARSE, FINE = demo_head(0), demo_head(1)


def of(subject):
    weights = identity_weights(27, subject)
    return COARSE.neutral(weights), FINE.neutral(weights)


@pytest.mark.parametrize("subject", [0, 5])
def test_people_of_the_demo_are_exact(subject):
    coarse, fine = of(subject)
    np.testing.assert_allclose(finer_head().neutral(coarse), fine, atol=1e-8)


def test_expressions_are_the_formulas():
    errors = []
    for label in (*COMA_LABELS, *FLORENCE_LABELS):
        for subject in (1, 4):
            coarse, fine = of(subject)
            weights = sequence_weights(27, subject, label, 24)[[6, 12]]
            found = finer_head().move(np.stack([deform(COARSE, coarse, w) for w in weights]), coarse)
            true = np.stack([deform(FINE, fine, w) for w in weights])[:, FINE.kind != TEETH]
            errors.append(1e3 * np.linalg.norm(found[:, FINE.kind != TEETH] - true, axis=2))
    assert np.mean(errors) < 0.003 and np.max(errors) < 0.7  # millimetres


def test_a_rigid_motion_stays_rigid():
    coarse, _ = of(2)
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    spread = finer_head().spread(np.stack([COARSE.mean @ rotation.T + 0.01, np.ones_like(COARSE.mean)]))
    for kind in (EYE, TEETH):  # each on its own
        for side in (-1, 1):
            part = (FINE.kind == kind) & ((FINE.side if kind == EYE else np.sign(FINE.inner[:, 1])) == side)
            np.testing.assert_allclose(spread[0, part], FINE.mean[part] @ rotation.T + 0.01, atol=1e-9)
    np.testing.assert_allclose(spread[1], 1)
    assert coarse.shape == COARSE.mean.shape


def test_a_face_of_no_identity_is_followed():
    """Out of the formula's space by a smooth bump: the fine skin takes it over."""
    bump = 0.004 * np.exp(-(((COARSE.mean - COARSE.mean[COARSE.mean[:, 1].argmax()]) / 0.05) ** 2).sum(axis=1))
    other = COARSE.mean + bump[:, None] * [0, 1, 0]
    found = finer_head().neutral(other)
    same = np.flatnonzero(COARSE.kind == SKIN)[:50]  # of the half head: the same numbers in both
    np.testing.assert_allclose(found[same], other[same], atol=1e-9)
    assert np.isfinite(found).all() and fit_similarity(found, FINE.mean).scale == pytest.approx(1, abs=0.01)


def test_eyes_stay_and_the_lower_teeth_follow_the_jaw():
    coarse, fine = of(3)
    weights = sequence_weights(27, 3, "mouth-extreme", 24)
    found = finer_head().move(np.stack([deform(COARSE, coarse, w) for w in weights]), coarse)
    eyes, upper, lower = (
        FINE.kind == EYE,
        (FINE.kind == TEETH) & (FINE.inner[:, 1] > 0),
        (FINE.kind == TEETH) & (FINE.inner[:, 1] < 0),
    )
    for part in (eyes, upper):
        still = np.broadcast_to(fine[part], found[:, part].shape)
        np.testing.assert_allclose(found[:, part], still, atol=2e-5 if part is eyes else 2e-4)
    apex = found[12]
    assert (fine[lower, 1] - apex[lower, 1]).min() > 0.015
    true = deform(FINE, fine, weights[12])  # of which the two sides of the jaw turn by slightly different angles
    np.testing.assert_allclose(apex[lower], true[lower], atol=2e-4)
    assert fit_similarity(fine[lower], apex[lower]).scale == pytest.approx(1, abs=0.002)


def test_teeth_do_not_stick_out_of_sucked_in_cheeks():
    """Of the narrowest face of the demo; where one sees teeth, no skin that looks forward lies behind them."""
    from face4d.render.zbuffer import rasterize

    coarse, fine = of(4)
    weights = weights_of("cheeks_in")
    found = finer_head().move(deform(COARSE, coarse, weights)[None], coarse)[0]
    kind = FINE.kind[FINE.faces].max(axis=1)
    counts = []
    for vertices in (deform(FINE, fine, weights), found):
        screen = (vertices - [-0.04, -0.005, 0]) * [5000, -5000, -5000]  # five pixels a millimetre, 80 mm wide
        seen, _, _ = rasterize(screen, FINE.faces, 400, 400, backfaces=True)
        others = FINE.faces[kind != TEETH]
        behind, _, _ = rasterize(screen, others, 400, 400, backfaces=True)
        a, b, c = (screen[others[:, corner], :2] for corner in range(3))
        forward = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
        skin = forward & (kind[kind != TEETH] == SKIN)
        counts.append(((seen >= 0) & (kind[seen] == TEETH) & (behind >= 0) & skin[behind]).sum())
    assert counts[0] > 30 and counts[1] < 5  # pixels: of the formula, of what is shown
