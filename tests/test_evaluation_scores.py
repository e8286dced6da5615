from dataclasses import replace

import numpy as np
import pytest

from face4d.constants import LANDMARK_GROUPS
from face4d.datasets.landmark_set import load_split, stack
from face4d.datasets.layout import sample_name
from face4d.errors import InputError
from face4d.evaluation import distribution, metrics
from face4d.evaluation.breakdowns import error_keys, per_group_columns, per_label_columns, per_subject_columns
from face4d.evaluation.generated import match_generated, match_samples
from face4d.evaluation.scores import REALISM_COLUMNS, SCORE_COLUMNS, TIMING_COLUMNS, competes, score
from tests.conftest import toy_sequence


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


@pytest.fixture
def generated(split, tmp_path):
    """A perfect generator's folder, every landmark 1 mm too high from frame 1 on."""
    folder = tmp_path / "generated"
    for sequence in split.test:
        place = folder / f"{sequence.subject}_{sequence.label}"
        place.mkdir(parents=True)
        moved = sequence.landmarks.copy()
        moved[1:, :, 1] += 0.001
        np.save(place / f"{sequence.label}_{sequence.subject}.npy", moved)
    return folder


def oracle(split):
    """A classifier that knows the directions of the labels."""
    data, labels = stack(split.train, split.labels)
    peaks = np.stack([data[labels == index].mean(axis=0).sum(axis=0) for index in range(len(split.labels))])
    return lambda batch: np.einsum("ntlk,clk->nc", batch - batch.mean(axis=2, keepdims=True), peaks).argmax(axis=1)


def test_scores_of_a_known_answer(split, generated):
    scores = score(split, split.labels, match_generated(generated, split.test), oracle(split))
    rows = {row["method"]: row for row in scores.rows}
    trivial = ["static neutral", "class mean", "noisy class mean", "nearest sequence", "random sequence"]
    assert list(rows) == ["real", "generated", *trivial]
    assert rows["real"]["accuracy"] == rows["real"]["acceleration_ratio"] == 1.0 and "mm_mean" not in rows["real"]
    assert rows["generated"]["mm_mean"] == pytest.approx(1.0, rel=1e-4) and rows["generated"]["mm_std"] < 1e-3
    assert rows["generated"]["mse"] == pytest.approx(1e-6 / 3, rel=1e-3) and rows["generated"]["l1"] == pytest.approx(
        1e-3 / 3, rel=1e-3
    )
    assert rows["generated"]["accuracy"] == rows["class mean"]["accuracy"] == 1.0
    assert rows["static neutral"]["accuracy"] == pytest.approx(1 / 3)
    real = np.concatenate([sequence.displacement[1:] for sequence in split.test])
    assert rows["static neutral"]["mm_mean"] == pytest.approx(1000 * np.linalg.norm(real, axis=-1).mean(), rel=1e-5)


def test_per_label_rows_average_to_the_whole(split, generated):
    scores = score(split, split.labels, match_generated(generated, split.test), oracle(split))
    assert [row["label"] for row in scores.per_label] == ["Happy", "Rage", "Scream"]
    assert sum(row["sequences"] for row in scores.per_label) == len(split.test)
    overall = {row["method"]: row for row in scores.rows}
    for method in scores.methods:
        values = [row[f"{method} mm_mean"] for row in scores.per_label]
        assert np.mean(values) == pytest.approx(overall[method]["mm_mean"])
    keys = {column.key for column in per_label_columns(scores.methods)}
    assert keys <= set(scores.per_label[0])
    np.testing.assert_array_equal(scores.confusion["generated"], 2 * np.eye(3))

    keys = {column.key for column in per_subject_columns(scores.methods)}
    assert keys <= set(scores.per_subject[0]) and [row["subject"] for row in scores.per_subject] == ["CH01", "CH02"]
    for method in scores.methods:
        values = [row[f"{method} mm_mean"] for row in scores.per_subject]
        assert np.mean(values) == pytest.approx(overall[method]["mm_mean"])


def test_errors_by_group_over_time_and_per_landmark(split, generated):
    answer = match_generated(generated, split.test)
    answer[:, 3:, LANDMARK_GROUPS["eyes"], 2] += 0.002
    scores = score(split, split.labels, answer, oracle(split))
    rows = {row["group"]: row for row in scores.per_group}
    assert set(rows) == set(LANDMARK_GROUPS) and {column.key for column in per_group_columns(scores.methods)} <= set(
        scores.per_group[0]
    )
    moved = 5**0.5  # 1 mm up, 2 mm forward
    assert (
        rows["mouth"]["generated mm_mean"] == pytest.approx(1.0, rel=1e-4) and rows["mouth"]["generated mm_std"] < 1e-3
    )
    assert (
        rows["eyes"]["generated mm_mean"] == pytest.approx((2 + 10 * moved) / 12, rel=1e-4)
        and rows["eyes"]["landmarks"] == 12
    )
    eyes = np.zeros(68)
    eyes[LANDMARK_GROUPS["eyes"]] = 1
    np.testing.assert_allclose(scores.per_landmark["generated"], 1 + eyes * 10 / 12 * (moved - 1), rtol=1e-4)
    np.testing.assert_allclose(scores.over_time["generated"], [1, 1] + [1 + 12 / 68 * (moved - 1)] * 10, rtol=1e-4)
    total = {row["method"]: row["mm_mean"] for row in scores.rows if row["method"] in scores.methods}
    for method in scores.methods:
        assert (
            scores.over_time[method].mean()
            == pytest.approx(total[method])
            == pytest.approx(scores.per_landmark[method].mean())
        )


def peaks(batch: np.ndarray) -> np.ndarray:
    """Features (N, 204) that say how far every coordinate went."""
    return 1000 * np.abs(batch).max(axis=1).reshape(len(batch), -1)


def test_real_sequences_are_classified_from_the_start_frame_on_and_answers_without_it(split, generated):
    real, _ = stack(split.test, split.labels)
    answer, seen, described = match_generated(generated, split.test), [], []

    def predict(batch):
        seen.append(batch)
        return np.zeros(len(batch), int)

    def features(batch):
        described.append(batch)
        return peaks(batch)

    score(split, split.labels, answer, predict, features)
    np.testing.assert_array_equal(seen[0], real)
    np.testing.assert_array_equal(seen[1], answer[:, 1:])
    assert all(len(batch[0]) == len(real[0]) - 1 for batch in [*seen[1:], *described])
    np.testing.assert_array_equal(described[0], stack(split.train, split.labels)[0][:, 1:])
    np.testing.assert_array_equal(described[1], real[:, 1:])


def test_realism_is_of_frames_after_the_start(split, generated):
    answer = match_generated(generated, split.test)
    scores = score(split, split.labels, answer, oracle(split), peaks)
    rows = {row["method"]: row for row in scores.rows}
    real, true = stack(split.test, split.labels)
    assert set(scores.features) == {"real", *scores.methods, "labels"}
    np.testing.assert_array_equal(scores.features["labels"], true)
    np.testing.assert_allclose(scores.features["generated"], peaks(answer[:, 1:]))
    assert rows["generated"]["fid"] == pytest.approx(distribution.fid(peaks(answer[:, 1:]), peaks(real[:, 1:])))
    assert rows["generated"]["fid_std"] > 0 and rows["generated"]["fid"] < rows["static neutral"]["fid"]
    assert rows["static neutral"]["diversity"] == rows["static neutral"]["multimodality"] == 0
    # all subjects of a label move alike
    assert rows["class mean"]["multimodality"] == pytest.approx(0) and rows["real"]["multimodality"] > 0
    assert rows["real"]["diversity"] == pytest.approx(distribution.diversity(peaks(real[:, 1:])))
    assert rows["real"]["fid"] == scores.fid_real_halves["mean"] < rows["static neutral"]["fid"]
    assert scores.samples is None and "sample_multimodality" not in rows["generated"]


def test_a_seed_repeats_every_number(split, generated):
    answer = match_generated(generated, split.test)
    run = lambda seed: score(split, split.labels, answer, oracle(split), peaks, generator=np.random.default_rng(seed))  # noqa: E731
    assert run(1).rows == run(1).rows
    assert run(1).rows != run(2).rows and run(1).rows[1]["fid"] == run(2).rows[1]["fid"]


def test_a_jump_out_of_the_start_frame_is_seen_as_acceleration(split):
    real, _ = stack(split.test, split.labels)
    frozen = np.repeat(real[:, 6:7], real.shape[1], axis=1)  # an expression that is there at once, and stays
    rows = {row["method"]: row for row in score(split, split.labels, frozen, oracle(split)).rows}
    jump = 1000 * np.linalg.norm(real[:, 6], axis=-1).mean()
    assert rows["generated"]["acceleration"] == pytest.approx(jump / 11, rel=1e-4)  # one of 11 second differences
    assert rows["generated"]["acceleration_ratio"] == pytest.approx(
        rows["generated"]["acceleration"] / metrics.acceleration(real)
    )
    assert rows["static neutral"]["acceleration"] == 0.0


def test_median_and_95th_percentile_of_single_distances(split, generated):
    answer = match_generated(generated, split.test)
    answer[:, 1:, :, 1] = np.linspace(0, 0.01, answer[:, 1:, :, 1].size).reshape(answer[:, 1:, :, 1].shape)
    real, _ = stack(split.test, split.labels)
    found = 1000 * np.linalg.norm((answer - real)[:, 1:].astype(np.float64), axis=-1)
    row = score(split, split.labels, answer, oracle(split)).rows[1]
    assert row["mm_median"] == pytest.approx(np.median(found)) and row["mm_p95"] == pytest.approx(
        np.quantile(found, 0.95)
    )


def test_what_competes_and_by_which_columns():
    assert [competes(method) for method in ("real", "generated", "best of 3", "class mean")] == [
        False,
        True,
        False,
        True,
    ]
    assert error_keys(("generated", "class mean")) == ["generated mm_mean", "class mean mm_mean"]
    columns = (*SCORE_COLUMNS, *REALISM_COLUMNS, *TIMING_COLUMNS)
    best = {column.key: column.best for column in columns if column.best}
    errors = ["mm_mean", "mm_std", "mm_median", "mm_p95", "mse", "l1", "mesh_mm", "mesh_std", "fid"]
    errors += ["aligned_mm", "apex_error", "strength_error"]  # diversity and the like are best where they are reality's
    assert best == {"accuracy": "max", **dict.fromkeys(errors, "min")}
    assert not competes("real training") and not competes("best of 3 random sequences")


@pytest.mark.parametrize(("frames", "there"), [(2, False), (3, True)])
def test_acceleration_takes_three_frames(split, generated, frames, there):
    short = type(split)(
        *([replace(s, landmarks=s.landmarks[:frames]) for s in half] for half in (split.train, split.test)),
        split.labels,
    )
    rows = score(short, split.labels, match_generated(generated, split.test)[:, :frames], oracle(split)).rows
    assert all(("acceleration" in row) == there for row in rows)


def test_two_sequences_are_enough_for_a_distance_of_distributions(split, generated):
    real, _ = stack(split.test, split.labels)
    two = type(split)(split.train, split.test[:2], split.labels)
    rows = score(two, split.labels, match_generated(generated, split.test)[:2], oracle(split), peaks).rows
    assert rows[1]["fid"] == pytest.approx(
        distribution.fid(peaks(match_generated(generated, split.test)[:2, 1:]), peaks(real[:2, 1:]))
    )


@pytest.mark.parametrize(
    ("counts", "there"), [((2, 2), True), ((1, 3), False), ((1, 1, 3), False), ((1, 1, 3, 3), True), ((2, 1, 1), False)]
)
def test_halves_of_the_training_subjects_have_two_sequences_each(split, generated, counts, there):
    """However the halves are drawn: the smallest one is of the subjects with the fewest sequences."""
    sequences = iter(split.train * 2)
    train = tuple(
        replace(next(sequences), subject=f"S{number}") for number, count in enumerate(counts) for _ in range(count)
    )
    few = type(split)(train, split.test[:1], tuple(sorted({s.label for s in train})))
    test = [s for s in split.test if s.label in few.labels][:1]
    scores = score(
        type(split)(train, test, few.labels),
        few.labels,
        np.stack([s.displacement for s in test]),
        lambda b: np.zeros(len(b), int),
        peaks,
    )
    assert (scores.fid_real_halves is not None) == there


def test_two_answers_are_several(split, generated):
    answer = match_generated(generated, split.test)
    scores = score(split, split.labels, np.stack([answer, answer]), oracle(split))
    assert scores.samples["count"] == 2 and scores.rows[2]["method"] == "best of 2"


def test_one_subject_or_one_sequence_has_fewer_scores(split, generated):
    few = type(split)(split.train[:1] + split.train[3:4] + split.train[6:7], split.test[:1], split.labels)
    scores = score(few, split.labels, match_generated(generated, split.test)[:1], oracle(split), peaks)
    assert scores.fid_real_halves is None
    assert (
        all(key not in row for row in scores.rows for key in ("fid", "diversity", "multimodality"))
        and scores.rows[1]["mm_mean"] > 0
    )


@pytest.fixture
def answers(split, generated):
    """Three answers: 1, 2 and 0.5 mm too high, but for Rage of CH02, where the second is exact."""
    for number, factor in enumerate((1.0, 2.0, 0.5)):
        for sequence in split.test:
            exact = number == 1 and (sequence.label, sequence.subject) == ("Rage", "CH02")
            moved = sequence.landmarks.copy()
            moved[1:, :, 1] += 0.0 if exact else 0.001 * factor
            place = generated.parent / "several" / sample_name(number) / f"{sequence.subject}_{sequence.label}"
            place.mkdir(parents=True)
            np.save(place / f"{sequence.label}_{sequence.subject}.npy", moved)
    return generated.parent / "several"


def test_several_answers(split, generated, answers):
    samples = match_samples(answers, split.test)
    assert samples.shape == (3, 6, 13, 68, 3)
    np.testing.assert_array_equal(samples[0], match_samples(generated, split.test)[0])
    scores = score(split, split.labels, samples, oracle(split), peaks)
    rows = {row["method"]: row for row in scores.rows}
    assert [row["method"] for row in scores.rows][:4] == ["real", "generated", "best of 3", "static neutral"]
    assert rows["generated"]["mm_mean"] == pytest.approx(1.0, rel=1e-4) and rows["best of 3"][
        "mm_mean"
    ] == pytest.approx(2.5 / 6, rel=1e-3)
    assert "accuracy" not in rows["best of 3"] and "best of 3" not in scores.methods
    assert rows["best of 3 random sequences"]["mm_mean"] <= rows["random sequence"]["mm_mean"]
    assert scores.samples["count"] == 3 and scores.samples["accuracy"] == [1.0] * 3
    assert scores.samples["mm_mean"] == pytest.approx([1, 10 / 6, 0.5], rel=1e-3)
    assert scores.samples["best_of"] == pytest.approx([1, 5 / 6, 2.5 / 6], rel=1e-3)
    found = np.stack([peaks(sample[:, 1:]) for sample in samples])  # (K, N, D)
    pairs = [np.linalg.norm(found[i] - found[j], axis=1).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert rows["generated"]["sample_multimodality"] == pytest.approx(np.mean(pairs))


def test_every_answer_has_to_be_whole_and_nothing_lies_beside(split, generated, answers):
    stray = answers / "Happy_CH01.npy"
    np.save(stray, toy_sequence(0, 0, 13))
    with pytest.raises(InputError, match="Happy_CH01.npy: expected every sequence inside sample_00 to sample_02"):
        match_samples(answers, split.test)
    stray.unlink()
    (answers / "sample_01" / "CH02_Rage" / "Rage_CH02.npy").unlink()
    with pytest.raises(InputError, match="sample_01: expected all 6 test sequences"):
        match_samples(answers, split.test)


def test_errors_ignore_the_start_frame(split, generated):
    answer = match_generated(generated, split.test)
    other = answer.copy()
    other[:, 0] += 1.0
    assert (
        score(split, split.labels, answer, oracle(split)).rows == score(split, split.labels, other, oracle(split)).rows
    )


def refusal(generated, split) -> str:
    with pytest.raises(InputError) as error:
        match_generated(generated, split.test)
    return str(error.value)


def test_missing_generated_files_are_counted_and_refused(split, generated):
    (generated / "CH02_Rage" / "Rage_CH02.npy").unlink()
    assert "all 6 test sequences, found 1 missing, first Rage_CH02.npy" in refusal(generated, split)


def test_unknown_label_names_the_file_and_the_known_ones(split, generated):
    np.save(generated / "Sleepy_CH01.npy", toy_sequence(0, 0, 13))
    message = refusal(generated, split)
    assert "Sleepy_CH01.npy" in message and "Happy, Rage, Scream" in message


def test_unknown_subject_names_the_file_and_the_known_ones(split, generated):
    np.save(generated / "Happy_me.npy", toy_sequence(0, 0, 13))
    message = refusal(generated, split)
    assert "Happy_me.npy" in message and "CH01, CH02" in message


def test_another_length_names_both_files(split, generated):
    np.save(generated / "CH01_Happy" / "Happy_CH01.npy", toy_sequence(0, 0, 12))
    message = refusal(generated, split)
    assert "Happy_CH01.npy" in message and "expected 13 frames" in message and message.endswith("found 12")


def test_known_label_and_subject_without_a_test_sequence(split, generated):
    fewer = [sequence for sequence in split.test if (sequence.label, sequence.subject) != ("Rage", "CH02")]
    with pytest.raises(InputError, match="Rage of CH02"):
        match_generated(generated, fewer)


def test_an_empty_folder_is_refused(split, tmp_path):
    (tmp_path / "nothing").mkdir()
    assert "found none" in refusal(tmp_path / "nothing", split)


def test_timing_of_known_answers(split, generated):
    """Half as strong, two frames late: what the errors say; the spread is that of the answers."""
    real, _ = stack(split.test, split.labels)
    late = np.concatenate([np.repeat(real[:, :1], 2, axis=1), real[:, :-2]], axis=1)
    scores = score(split, split.labels, np.stack([real / 2, late]), oracle(split))
    rows = {row["method"]: row for row in scores.rows}
    assert rows["generated"]["apex_error"] == pytest.approx(0, abs=1e-4)
    assert rows["generated"]["strength_error"] == pytest.approx(rows["real"]["strength"] / 2, rel=1e-4)
    assert "apex_error" not in rows["real"] and rows["real"]["strength"] == pytest.approx(1, abs=0.05)
    single = {row["method"]: row for row in score(split, split.labels, late, oracle(split)).rows}
    assert single["generated"]["apex_error"] == pytest.approx(2, abs=0.3)
    assert single["generated"]["apex_q50"] == pytest.approx(single["real"]["apex_q50"] + 2, abs=0.5)
    assert single["generated"]["strength_error"] < 0.01
    assert (
        single["generated"]["apex_distance"] > single["real"]["apex_distance"] > 0 == scores.training["apex_distance"]
    )
    assert single["generated"]["aligned_mm"] < 0.5 * single["generated"]["mm_mean"]
    still = rows["static neutral"]
    assert still["apex_error"] is None and "apex_q50" not in still and still["strength"] == 0
    assert still["aligned_mm"] < still["mm_mean"]
    assert rows["real"]["apex_q05"] <= rows["real"]["apex_q50"] <= rows["real"]["apex_q95"] <= real.shape[1] - 1


def test_precision_and_recall_of_the_trivial_predictors(split, generated):
    scores = score(split, split.labels, match_generated(generated, split.test), oracle(split), peaks)
    rows = {row["method"]: row for row in scores.rows}
    for kind in ("", "motion_"):
        assert rows["nearest sequence"][f"{kind}precision"] == rows["random sequence"][f"{kind}precision"] == 1
        assert rows["class mean"][f"{kind}recall"] == rows["static neutral"][f"{kind}recall"] == 0
        assert rows["random sequence"][f"{kind}recall"] > 0
    assert scores.training["method"] == "real training" and scores.training["multimodality"] > 0


def test_labels_that_do_not_train_leave_the_static_neutral(split, generated):
    """Splits by expression: no classifier, no class mean, nothing of timing."""
    train = tuple(sequence for sequence in split.train if sequence.label != "Rage")
    test = tuple(sequence for sequence in split.test if sequence.label == "Rage")
    real, _ = stack(test, split.labels)
    scores = score(type(split)(train, test, ("Happy", "Scream")), split.labels, real + np.float32(0.001))
    assert [row["method"] for row in scores.rows] == ["real", "generated", "static neutral"]
    row = scores.rows[1]
    assert row["mm_mean"] == pytest.approx(3**0.5, rel=1e-4) and "accuracy" not in row and "apex_error" not in row
    assert scores.confusion == {} and scores.methods == ("generated", "static neutral")


def test_the_surface_is_measured_for_every_method(split, generated):
    answer = match_generated(generated, split.test)
    real, _ = stack(split.test, split.labels)

    def surface(moved):
        return metrics.mm_error(2 * moved[:, 1:], 2 * real[:, 1:])

    rows = {row["method"]: row for row in score(split, split.labels, answer, surface=surface).rows}
    assert rows["generated"]["mesh_mm"] == pytest.approx(2 * rows["generated"]["mm_mean"], rel=1e-5)
    assert rows["real"]["mesh_mm"] == 0 and rows["class mean"]["mesh_std"] > 0
