"""Controls of motions: found in sequences whose controls are known, and in real ones."""

import numpy as np
import pytest

from face4d.controls import (
    Controls,
    GivenControls,
    along,
    apex_displacements,
    as_ratios,
    complete,
    find_controls,
    label_directions,
)
from face4d.datasets.landmark_set import load_folder


def smoothstep(u):
    u = np.clip(u, 0, 1)
    return 3 * u**2 - 2 * u**3


def motion(direction, frames, onset, apex, release, offset, strength=1.0):
    """A sequence (frames, L, 3) that rises and falls along a direction by smoothsteps."""
    time = np.arange(frames)
    rise = smoothstep((time - onset) / max(apex - onset, 1e-9))
    fall = smoothstep((offset - time) / max(offset - release, 1e-9))
    return strength * np.minimum(rise, fall)[:, None, None] * direction


@pytest.fixture
def direction():
    return np.random.default_rng(1).normal(0, 3e-3, (68, 3))


@pytest.mark.parametrize(
    "times", [(0, 10, 10, 60), (5, 20, 40, 55), (0, 30, 59, 60), (12.5, 24.25, 31.5, 48.75), (20, 21, 22, 23)]
)
def test_controls_of_smooth_motions_are_found(direction, times):
    found = find_controls(motion(direction, 61, *times, strength=0.7)[None], direction[None])
    # exact but for the interpolation between frames, which sees little of a flank of one frame
    np.testing.assert_allclose(found.array()[0, :4], times, atol=0.06 if min(np.diff(times)[::2]) > 2 else 0.35)
    assert found.strength[0] == pytest.approx(0.7, abs=1e-4)


def test_the_middle_of_the_hold_is_the_peak():
    controls = Controls(np.array([0.0]), np.array([10.0]), np.array([30.0]), np.array([40.0]), np.array([1.0]))
    assert controls.peak.tolist() == [20.0]
    assert Controls.of(controls.array()) == controls


def test_two_high_peaks_are_one_hold_and_a_low_one_is_a_flank(direction):
    first = motion(direction, 101, 10, 20, 20, 40)
    for second, release in ((0.95, 70), (0.5, 20)):
        both = first + motion(direction, 101, 50, 70, 70, 90, second)
        found = find_controls(both[None], direction[None])
        assert found.apex[0] == pytest.approx(20, abs=0.1)
        assert found.release[0] == pytest.approx(release, abs=2)


def test_a_motion_that_does_not_come_back_ends_at_the_last_frame(direction):
    stays = motion(direction, 41, 0, 20, 100, 120)[None]
    found = find_controls(stays, direction[None])
    assert (found.release[0], found.offset[0]) == (40, 40)
    begins_there = find_controls(stays[:, ::-1], direction[None])
    assert (begins_there.onset[0], begins_there.apex[0]) == (0, 0)


def test_no_motion_has_no_strength_and_the_other_way_is_negative(direction):
    still = find_controls(np.zeros((1, 41, 68, 3)), direction[None])
    assert still.array()[0].tolist() == [0, 0, 40, 40, 0]
    away = find_controls(motion(-direction, 41, 5, 15, 20, 35)[None], direction[None])
    assert away.strength[0] == pytest.approx(-1, abs=1e-4)
    assert away.apex[0] == pytest.approx(15, abs=0.06)


def test_the_mean_strength_of_a_label_is_one():
    rng = np.random.default_rng(2)
    sequences = np.stack([motion(rng.normal(1, 1, (68, 3)), 41, 0, 20, 25, 40, s) for s in (0.2, 1.0, 3.0, 1.0)])
    labels = np.array([0, 0, 0, 2])
    directions = label_directions(sequences, labels, 3)
    assert not directions[1].any()
    strength = find_controls(sequences, directions[labels]).strength
    assert strength[:3].mean() == pytest.approx(1)
    assert strength[3] == pytest.approx(1)


def test_along_is_one_on_the_direction_itself(direction):
    both = np.stack([direction, 0.5 * direction])[None]
    np.testing.assert_allclose(along(both, direction[None]), [[1, 0.5]])
    assert not along(both, np.zeros((1, 68, 3))).any()


def test_real_sequences(shared_data):
    """Florence 4D motions are smoothsteps to one peak, at frame 10 to 49, and back over the whole sequence."""
    sequences = [
        s for s in load_folder(shared_data / "landmarks_florence/dataset_testing") if s.label in ("Happy", "Rage")
    ]
    moved = np.stack([s.landmarks - s.neutral for s in sequences])
    labels = np.array([s.label == "Rage" for s in sequences]).astype(int)
    directions = label_directions(moved, labels, 2)[labels]
    found = find_controls(moved, directions)
    np.testing.assert_allclose(found.onset, 0, atol=0.1)
    np.testing.assert_allclose(found.offset, 60, atol=0.1)
    np.testing.assert_allclose(found.release, found.apex, atol=0.1)
    assert np.all((9.5 < found.peak) & (found.peak < 49.5))
    np.testing.assert_allclose(found.strength, 1, atol=0.03)
    envelope = np.stack([motion(d, 61, *c) for d, c in zip(directions, found.array(), strict=True)])
    assert 1000 * np.linalg.norm(envelope - moved, axis=3).mean() < 0.06  # millimetres


def test_motions_of_the_coma_labels(shared_data):
    """Twelve labels with holds, double peaks and blinks. Where each phase was made to begin is known; flanks have any
    shape, so that times agree in the median."""
    weights = np.load(shared_data / "motion_coma.npz")
    basis = np.load(shared_data / "expression_basis.npz")["deltas"]  # (53, V, 3)
    embedding = np.load(shared_data / "flame_assets/landmark_embedding_68.npz")
    shapes = np.einsum("nlcx,lc->nlx", basis[:, embedding["faces"][embedding["face_idx"]]], embedding["bary"])
    differences = []
    for made in weights["meta"]:
        moved = np.einsum("tn,nlx->tlx", weights[f"{made['subject']}__{made['label']}"], shapes)[None]
        found = find_controls(moved, apex_displacements(moved))
        assert found.strength[0] == pytest.approx(1)
        times = found.array()[0, :4]
        assert 0 <= times[0] <= times[1] <= times[2] <= times[3] <= moved.shape[1] - 1
        true = np.cumsum([made[phase] for phase in ("n_neutral_start", "n_onset", "n_hold", "n_offset")])
        differences.append((times - true) / true[3])
    assert len(differences) == 144
    assert np.abs(np.median(differences, axis=0)).max() < 0.03
    assert np.percentile(np.abs(differences), 75) < 0.1


def test_ratios_and_back():
    controls = Controls.of(np.array([[2, 10, 14, 30, 0.8], [0, 25, 25, 40, -1.2], [0, 12, 40, 40, 1.0]]))
    again = complete(as_ratios(controls, 40), GivenControls(), 40)
    np.testing.assert_allclose(again.array(), controls.array())
    np.testing.assert_allclose(complete(as_ratios(controls, 40), GivenControls(), 80).array()[:, :4] / 2, [
        [2, 10, 14, 30], [0, 25, 25, 40], [0, 12, 40, 40]
    ])  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        GivenControls(apex=20),
        GivenControls(apex=20, hold=10, strength=0.7),
        GivenControls(onset=30),
        GivenControls(hold=35),
        GivenControls(offset=12),
        GivenControls(onset=5, apex=6, hold=0, offset=7),
        GivenControls(onset=10, hold=20, offset=35),
        GivenControls(apex=39, hold=1),
    ],
)
def test_given_controls_are_kept_and_the_rest_fits(given):
    ratios = np.random.default_rng(3).uniform(0, 1, (200, 5))
    assert given.impossible(40) is None
    made = complete(ratios, given, 40)
    values = {"onset": made.onset, "apex": made.apex, "hold": made.release - made.apex, "offset": made.offset}
    for name, found in {**values, "strength": made.strength}.items():
        if getattr(given, name) is not None:
            np.testing.assert_allclose(found, getattr(given, name), err_msg=name)
    times = made.array()[:, :4]
    assert (np.diff(times, axis=1) >= -1e-9).all() and times.min() >= 0 and times.max() <= 40 + 1e-9
    assert (made.apex - made.onset >= 1 - 1e-9).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (GivenControls(onset=12, apex=10), "apex 10 with onset 12"),
        (GivenControls(apex=0.5), "apex 0.5 with onset 0"),
        (GivenControls(apex=35, hold=10), "apex 35 and hold 10 with the last frame 40"),
        (GivenControls(apex=20, hold=10, offset=25), "apex 20 and hold 10 with offset 25"),
        (GivenControls(onset=20, hold=20), "onset 20 and hold 20 with the last frame 40"),
        (GivenControls(offset=50), "offset 50 after the last frame, 40"),
        (GivenControls(apex=41), "apex 41 with the last frame 40"),
    ],
)
def test_given_controls_that_cannot_be_are_named(given, said):
    assert given.impossible(40) == said
