import numpy as np
import pytest

from face4d.evaluation.predictors import class_mean, nearest_sequence, static_neutral

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(4, 5, 68, 3)).astype(np.float32)
LABELS = np.array([0, 0, 1, 1])


def test_static_neutral_does_not_move():
    still = static_neutral(2, (5, 68, 3))
    assert still.shape == (2, 5, 68, 3) and not still.any()


def test_class_mean_is_the_mean_over_training_sequences_of_the_label():
    answer = class_mean(TRAIN, LABELS, np.array([1, 0, 1]))
    np.testing.assert_allclose(answer[0], (TRAIN[2] + TRAIN[3]) / 2)
    np.testing.assert_allclose(answer[1], (TRAIN[0] + TRAIN[1]) / 2)
    np.testing.assert_array_equal(answer[0], answer[2])


def test_nearest_sequence_takes_the_same_label_of_the_subject_with_the_nearest_face():
    faces = RNG.normal(size=(2, 68, 3))  # two training subjects, each with both labels
    neutrals = faces[[0, 1, 0, 1]]
    moved = faces[1] + np.array([0.5, -3.0, 2.0])  # another place in the room is no difference
    answer = nearest_sequence(TRAIN, LABELS, neutrals, np.array([0, 1]), np.stack([moved, moved]) + 1e-3 * RNG.normal(size=(2, 68, 3)))
    np.testing.assert_array_equal(answer, TRAIN[[1, 3]])
    # A subject without the label is no candidate, however near.
    answer = nearest_sequence(TRAIN[[0, 3]], np.array([0, 1]), faces, np.array([0]), moved[None])
    np.testing.assert_array_equal(answer, TRAIN[[0]])


@pytest.mark.parametrize("predict", [class_mean, lambda *a: nearest_sequence(*a[:2], np.zeros((4, 68, 3)), a[2], np.zeros((1, 68, 3)))])
def test_a_label_without_training_sequence_is_refused(predict):
    with pytest.raises(ValueError, match=r"class \[2\]"):
        predict(TRAIN, LABELS, np.array([2]))
