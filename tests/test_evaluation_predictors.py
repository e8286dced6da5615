import numpy as np
import pytest

from face4d.evaluation.predictors import class_mean, nearest_sequence, noisy_class_mean, random_sequence, static_neutral

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


def test_noisy_class_mean_has_the_spread_of_the_training_sequences():
    wanted = np.repeat([0, 1], 50)
    train = TRAIN * np.array([1, 1, 5, 5], np.float32)[:, None, None, None]
    noise = noisy_class_mean(train, LABELS, wanted, np.random.default_rng(1)) - class_mean(train, LABELS, wanted)
    for label in (0, 1):
        residual = train[LABELS == label] - train[LABELS == label].mean(axis=0)
        assert noise[wanted == label].std() == pytest.approx(np.sqrt(np.square(residual).mean()), rel=0.02)
    frames = noise.reshape(100, 5, -1)
    # white: nothing carries over to the next frame
    assert abs(np.mean(frames[:, 1:] * frames[:, :-1])) < 0.01 * np.square(frames).mean()
    assert noise.dtype == np.float32
    again = noisy_class_mean(train, LABELS, wanted, np.random.default_rng(1)) - class_mean(train, LABELS, wanted)
    np.testing.assert_array_equal(noise, again)


def test_random_sequences_are_training_sequences_of_the_label_each_as_often():
    wanted = np.repeat([1, 0], 500)
    drawn = random_sequence(TRAIN, LABELS, wanted, np.random.default_rng(3))
    chosen = np.array([next(k for k in range(4) if np.array_equal(TRAIN[k], sequence)) for sequence in drawn])
    np.testing.assert_array_equal(LABELS[chosen], wanted)
    assert min(np.bincount(chosen)) > 200  # of 250 expected
    np.testing.assert_array_equal(drawn, random_sequence(TRAIN, LABELS, wanted, np.random.default_rng(3)))
    with pytest.raises(ValueError, match=r"class \[2\]"):
        random_sequence(TRAIN, LABELS, np.array([2]), np.random.default_rng(0))


def test_nearest_sequence_takes_the_same_label_of_the_subject_with_the_nearest_face():
    faces = RNG.normal(size=(2, 68, 3))  # two training subjects, each with both labels
    neutrals = faces[[0, 1, 0, 1]]
    moved = faces[1] + np.array([0.5, -3.0, 2.0])  # another place in the room is no difference
    answer = nearest_sequence(
        TRAIN, LABELS, neutrals, np.array([0, 1]), np.stack([moved, moved]) + 1e-3 * RNG.normal(size=(2, 68, 3))
    )
    np.testing.assert_array_equal(answer, TRAIN[[1, 3]])
    # A subject without the label is no candidate, however near.
    answer = nearest_sequence(TRAIN[[0, 3]], np.array([0, 1]), faces, np.array([0]), moved[None])
    np.testing.assert_array_equal(answer, TRAIN[[0]])


def test_nearest_sequence_compares_the_faces_wherever_their_heads_are():
    same_shape, other_shape = RNG.normal(0, 0.03, (2, 68, 3))  # metres, about a face's size
    wanted = same_shape + np.array([0.0, 0.2, 0.0])
    neutrals = np.stack(
        [other_shape - other_shape.mean(axis=0) + wanted.mean(axis=0), same_shape - np.array([0.0, 0.3, 0.1])]
    )
    answer = nearest_sequence(TRAIN[:2], np.array([0, 0]), neutrals, np.array([0]), wanted[None])
    # the same face half a metre away, not another one at the same place
    np.testing.assert_array_equal(answer, TRAIN[[1]])


def test_nearest_sequence_takes_the_first_of_equals():
    face = RNG.normal(size=(68, 3))
    answer = nearest_sequence(TRAIN, LABELS, np.stack([face] * 4), np.array([1]), face[None])
    np.testing.assert_array_equal(answer, TRAIN[[2]])


def nearest(train, train_labels, labels):
    return nearest_sequence(train, train_labels, np.zeros((4, 68, 3)), labels, np.zeros((1, 68, 3)))


def noisy(train, train_labels, labels):
    return noisy_class_mean(train, train_labels, labels, np.random.default_rng(0))


@pytest.mark.parametrize("predict", [class_mean, noisy, nearest])
def test_a_label_without_training_sequence_is_refused(predict):
    with pytest.raises(ValueError, match=r"class \[2\]"):
        predict(TRAIN, LABELS, np.array([2]))
