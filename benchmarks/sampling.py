"""Generators that follow controls or give many answers: how well they obey, how like the real ones their answers are.

    python benchmarks/sampling.py --checkpoint models/controlled.pt models/flow.pt models/gan.pt \
        --classifier models/florence_classifier.pt
    python benchmarks/sampling.py --checkpoint models/controlled.pt --classifier models/classifier.pt --identity

The test set is that of each checkpoint (--landmarks, --test-subjects: another). Beside the generators stand the class
mean and a sampler that nobody can be expected to beat: a random training sequence of the label, which is real motion
with real timing. Distances are over frames 1 to T. Draws have the numbers 0 to --draws - 1 of one seed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from face4d.commands import cli, data_flags
from face4d.commands.motion_flags import kept_mask
from face4d.constants import MM_PER_METRE
from face4d.controls import Controls, GivenControls, along, apex_displacements, find_controls, label_directions

if TYPE_CHECKING:
    from face4d.classification.classifier import Classifier
    from face4d.datasets.landmark_set import LandmarkSplit
    from face4d.generation.sample import Generator

FRAMES = ("onset", "apex", "release", "offset")
QUANTILES = (5, 50, 95)
RIDGE = (0.1, 1.0, 10.0)
FEW = 5  # components of neutral faces


def parse() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True, metavar="FILE", help="generators")
    parser.add_argument("--classifier", type=Path, metavar="FILE", help="for FID, multimodality and accuracy")
    parser.add_argument("--draws", type=cli.integer(2, 1000), default=20, metavar="K", help="per test sequence")
    parser.add_argument("--identity", action="store_true", help="also: does the neutral face say how one moves?")
    data_flags.add_data_flags(parser, training=False)
    cli.add_run_flags(parser, "seed")
    return parser.parse_args()


class Data:
    """Real sequences of one split, and what every table needs of them."""

    def __init__(self, split: LandmarkSplit, labels: tuple[str, ...]) -> None:
        from face4d.datasets.landmark_set import stack

        self.names = labels
        self.train, self.train_labels = stack(split.train, labels)
        self.real, self.labels = stack(split.test, labels)
        self.directions = label_directions(self.train, self.train_labels, len(labels))
        self.controls = find_controls(self.real, self.directions[self.labels])
        self.train_controls = find_controls(self.train, self.directions[self.train_labels])
        self.subjects = np.array([sequence.subject for sequence in split.train])
        self.neutrals = np.stack([sequence.neutral for sequence in split.train])
        self.last = self.real.shape[1] - 1


def millimetres(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., N) mean distance over frames 1..T and landmarks of sequences (..., N, T + 1, L, 3)."""
    return MM_PER_METRE * np.linalg.norm(first[..., 1:, :, :] - second[..., 1:, :, :], axis=-1).mean(axis=(-2, -1))


def table(title: str, rows: list[dict[str, Any]]) -> None:
    from face4d.evaluation.tables import Column, text_table

    keys = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n{title}\n\n{text_table([Column(key, key, '.3f') for key in keys], rows)}")


def obedience(generators: dict[str, Generator], data: Data, seed: int) -> None:
    """Errors with the real sequences' controls, and how far the controls of what is generated are from those asked
    for.
    """
    mean = np.stack([data.train[data.train_labels == label].mean(axis=0) for label in range(len(data.names))])
    own = along(data.real, data.directions[data.labels])[:, :, None, None] * data.directions[data.labels][:, None]
    rows = [
        {"generator": "class mean", "real controls (mm)": millimetres(mean[data.labels], data.real).mean()},
        {"generator": "label's direction, true activation", "real controls (mm)": millimetres(own, data.real).mean()},
    ]
    random = np.random.default_rng(seed)
    count, last = 200, data.last
    apex = random.uniform(0.15, 0.7, count) * last
    release = apex + random.uniform(0, 0.5, count) * (0.9 * last - apex)
    onset, offset = random.uniform(0, 0.6, count) * apex, random.uniform(0.6, 1, count) * (last - release) + release
    asked = Controls(onset, apex, release, np.minimum(offset, last), random.uniform(0.4, 1.6, count))
    labels = random.integers(0, len(data.names), count)
    for name, generator in generators.items():
        made = generator.generate(data.real[:, 0], data.labels, controls=data.controls)
        row: dict[str, Any] = {
            "generator": name,
            "real controls (mm)": millimetres(made, data.real).mean(),
        }
        start = np.zeros((count, *data.real.shape[2:]), np.float32)
        found = find_controls(generator.generate(start, labels, controls=asked), data.directions[labels])
        apart = np.abs(found.array() - asked.array())
        row |= {f"{key} off (95 %)": np.percentile(apart[:, k], 95) for k, key in enumerate((*FRAMES, "strength"))}
        rows.append(row)
    table("controls of real sequences, then random ones: frames and strength that are missed by at most", rows)


def extrapolation(generators: dict[str, Generator], data: Data, classifier: Classifier | None) -> None:
    """Controls outside of the training set: fastest frame beside the real ones', and whether the label is still
    read.
    """

    def speed(moved: np.ndarray) -> np.ndarray:
        return MM_PER_METRE * np.linalg.norm(np.diff(moved, axis=1), axis=3).mean(axis=2).max(axis=1)  # (N,)

    fastest = speed(data.train)
    rows = [{"generator": "real", "fastest (mm/frame)": fastest.mean(), "of all": fastest.max()}]
    labels, last = np.arange(len(data.names)), data.last
    earliest = data.train_controls.apex.min()
    start = np.zeros((len(labels), *data.real.shape[2:]), np.float32)
    for name, generator in generators.items():
        for what, given in {
            "mean": GivenControls(),
            "strength 2": GivenControls(strength=2.0),
            "strength 0.3": GivenControls(strength=0.3),
            f"apex {0.5 * earliest:.0f} (earliest {earliest:.0f})": GivenControls(apex=max(0.5 * earliest, 1)),
            "the same, strength 2": GivenControls(apex=max(0.5 * earliest, 1), strength=2.0),
            "hold of 0.6 T": GivenControls(apex=0.2 * last, hold=0.6 * last),
        }.items():
            made = generator.generate(start, labels, controls=given)
            row = {
                "generator": f"{name}, {what}",
                "fastest (mm/frame)": speed(made).mean(),
                "of all": speed(made).max(),
            }
            if classifier is not None:
                row["label read"] = float((classifier.predict(made[:, 1:]).numpy() == labels).mean())
            rows.append(row)
    table("outside of the training set", rows)


def sampling(
    generators: dict[str, Generator], data: Data, classifier: Classifier | None, draws: int, seed: int
) -> None:
    """Many answers: how near one and the nearest of ten are, and how they spread beside the real ones."""
    random = np.random.default_rng(seed)
    real, own = np.concatenate([data.train, data.real]), np.concatenate([data.train_labels, data.labels])
    apexes = np.concatenate([data.train_controls.peak, data.controls.peak])

    def some_real() -> np.ndarray:
        return data.train[[random.choice(np.flatnonzero(data.train_labels == label)) for label in data.labels]]

    answers = {"random training sequence": np.stack([some_real() for _ in range(draws)])}
    took = {}
    for name, generator in generators.items():
        began = time.perf_counter()
        answers[name] = np.stack(
            [generator.generate(data.real[:, 0], data.labels, seed=seed, sample=sample) for sample in range(draws)]
        )
        took[name] = 1000 * (time.perf_counter() - began) / (draws * len(data.real))
    halves = [random.permutation(np.unique(data.subjects)) for _ in range(20)]
    first: dict[str, Any] = {"sampler": "real", "mm between two": between(real, own)}
    first |= dict(zip(("apex 5 %", "50 %", "95 %"), np.percentile(apexes, QUANTILES)))
    if classifier is not None:
        first |= {"multimodality": spread(classifier, real, own), "FID": half_fid(classifier, data, halves)}
    rows = [first]
    for name, samples in answers.items():
        errors = millimetres(samples, data.real)  # (K, N)
        best = [errors[k : k + 10].min(axis=0).mean() for k in range(0, draws - 9, 10)]
        found = [find_controls(moved, data.directions[data.labels]).peak for moved in samples]
        row = {"sampler": name, "one draw (mm)": errors.mean(), "nearest of ten": statistics.mean(best or [np.nan])}
        flat, labels = np.concatenate(list(samples)), np.tile(data.labels, draws)
        row |= {"mm between two": between(flat, labels)}
        row |= dict(zip(("apex 5 %", "50 %", "95 %"), np.percentile(np.concatenate(found), QUANTILES)))
        if classifier is not None:
            row["multimodality"] = spread(classifier, flat, labels)
            row["FID"] = half_fid(classifier, data, halves, generators.get(name), seed)
            row["label read"] = float((classifier.predict(flat[:, 1:]).numpy() == labels).mean())
        if name in took:
            row["ms"] = took[name]
        rows.append(row)
    table(f"{draws} draws per test sequence; FID of one half of the training subjects to the other", rows)


def filling(generators: dict[str, Generator], data: Data, seed: int) -> None:
    """Errors of what is not given, when frames or groups of landmarks of each real sequence are."""
    last = data.last
    keys = ",".join(str(round(share * last / 3)) for share in range(4))
    rows = []
    for name, generator in generators.items():
        for text in (keys, f"0,{last // 2}", f"0,{last}", f"0-{last // 2}", "mouth", "brows"):
            mask = kept_mask(text, last + 1)
            began = time.perf_counter()
            made = generator.fill(data.real, mask, data.labels, seed=seed)
            took = (time.perf_counter() - began) / len(made)
            apart = MM_PER_METRE * np.linalg.norm(made - data.real, axis=3)[:, ~mask]  # (N, P)
            row = {"generator": name, "given": text, "others (mm)": apart.mean(), "worst": apart.mean(axis=1).max()}
            rows.append(row | {"s": took})
    table("filling in test sequences of which frames or landmarks are given", rows)


def between(sequences: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance of two sequences of one label, millimetres, over 2,000 pairs at most of each label."""
    random = np.random.default_rng(0)
    means = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        a, b = random.choice(rows, 200), random.choice(rows, 200)
        means.append(millimetres(sequences[a[a != b]], sequences[b[a != b]]).mean())
    return float(np.mean(means))


def spread(classifier: Classifier, sequences: np.ndarray, labels: np.ndarray) -> float:
    """Multimodality in the features of the classifier."""
    from face4d.evaluation.distribution import multimodality

    return multimodality(features(classifier, sequences), labels)


def features(classifier: Classifier, sequences: np.ndarray) -> np.ndarray:
    return np.asarray(classifier.features(sequences[:, 1:]).numpy(), np.float64)


def half_fid(
    classifier: Classifier, data: Data, halves: list[np.ndarray], generator: Generator | None = None, seed: int = 0
) -> float:
    """Mean FID of one half of the training subjects to the other, the first generated (None: real), so that all sets
    have the same size whoever made them.
    """
    from face4d.evaluation.distribution import fid

    real = features(classifier, data.train)
    values = []
    for number, names in enumerate(halves):
        half = np.isin(data.subjects, names[: len(names) // 2])
        made = real[half]
        if generator is not None:
            moved = generator.generate(data.train[half][:, 0], data.train_labels[half], seed=seed, sample=number)
            made = features(classifier, moved)
        values.append(fid(made, real[~half]))
    return float(np.mean(values))


def identity(data: Data) -> None:
    """Does the neutral face say how its owner moves? Ridge regression from the principal coefficients of neutral faces
    to what is left of the largest displacement beside the label's mean, each training subject left out in turn.
    """
    largest = apex_displacements(data.train).astype(np.float64)
    faces = data.neutrals - data.neutrals.mean(axis=1, keepdims=True)
    rows = []
    for count in range(FEW + 1):
        for ridge in RIDGE if count else (0.0,):
            errors: dict[str, list[float]] = {"strength given": [], "strength not given": []}
            for subject in np.unique(data.subjects):
                known = data.subjects != subject
                directions = label_directions(data.train[known], data.train_labels[known], len(data.names))
                for key in errors:
                    strength = along(largest[:, None], directions[data.train_labels]) if "not" not in key else 1.0
                    usual = np.reshape(strength, (-1, 1, 1)) * directions[data.train_labels]
                    guess = usual[~known]
                    if count:
                        guess = guess + _regressed(data, faces, largest - usual, known, count, ridge)
                    errors[key].append(MM_PER_METRE * np.linalg.norm(guess - largest[~known], axis=2).mean())
            rows.append({"components": count, "ridge": ridge} | {key: np.mean(found) for key, found in errors.items()})
    table("error at the apex of subjects left out (mm), by components of the neutral face", rows)


def _regressed(
    data: Data, faces: np.ndarray, left: np.ndarray, known: np.ndarray, count: int, ridge: float
) -> np.ndarray:
    """What the neutral faces say of ``left`` for the sequences that are not known."""
    people = np.stack([faces[known & (data.subjects == name)][0] for name in np.unique(data.subjects[known])])
    flat = people.reshape(len(people), -1)
    mean = flat.mean(axis=0)
    _, singular, axes = np.linalg.svd(flat - mean, full_matrices=False)
    codes = (faces.reshape(len(faces), -1) - mean) @ axes[:count].T / singular[:count] * len(people) ** 0.5
    guess = np.zeros_like(left)
    for label in range(len(data.names)):
        own = data.train_labels == label
        x, y = codes[own & known], left[own & known].reshape(np.sum(own & known), -1)
        weights = np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(count), x.T @ y)
        guess[own] = (codes[own] @ weights).reshape(-1, *left.shape[1:])
    return guess[~known]


def main(args: argparse.Namespace) -> None:
    import torch

    from face4d.classification.classifier import load_classifier
    from face4d.generation.sample import load_generator

    torch.set_num_threads(1)
    generators = {path.stem: load_generator(path) for path in args.checkpoint}
    classifier = load_classifier(args.classifier) if args.classifier else None
    first = next(iter(generators.values()))
    data = Data(data_flags.data_source(args, first.source, first.path).load(first.labels), first.labels)
    print(f"{len(data.train)} training and {len(data.real)} test sequences of {len(data.names)} labels")
    following = {name: generator for name, generator in generators.items() if generator.controlled}
    if following:
        obedience(following, data, args.seed)
        extrapolation(following, data, classifier)
    sampling(
        {name: generator for name, generator in generators.items() if generator.stochastic},
        data,
        classifier,
        args.draws,
        args.seed,
    )
    able = {name: generator for name, generator in generators.items() if generator.fills}
    if able:
        filling(able, data, args.seed)
    if args.identity:
        identity(data)


if __name__ == "__main__":
    main(parse())
