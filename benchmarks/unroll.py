"""Optimiser steps of the generators: the training engine against the plain LSTMCell loop through autograd.

    python benchmarks/unroll.py
    python benchmarks/unroll.py --only coma default --threads 1 --repeats 20
    python benchmarks/unroll.py --only coma --epoch  # a whole epoch of the engine, too
    # on a GPU, its steps replayed as CUDA graphs
    python benchmarks/unroll.py --device cuda --epoch --precision fp32 tf32 bf16

Both are networks of face4d/generation/lstm.py, --engine plain and fast. They run in turn in one process, so that what
else the machine does falls on both. A step is the forward pass, the loss, the backward pass and Adam. The cost of a
step grows linearly with its horizon, so an epoch of the thesis' schedule (one step for every horizon 1..T) is estimated
as steps per epoch times a step at the mean horizon; --epoch runs one, every horizon and the smaller last batch.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import statistics
import time
from typing import Any

from face4d.commands import cli

CASES = {  # network, classes, hidden size, sequences, batch, T, horizons per batch
    "coma": ("thesis", 12, 256, 108, 25, 40, "every"),
    "florence": ("thesis", 10, 1024, 100, 25, 60, "every"),
    "florence2048": ("thesis", 10, 2048, 100, 25, 60, "every"),
    "default": ("coefficients", 10, 128, 100, 50, 60, "first"),
}


def parse() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=["coma", "florence", "default"])
    parser.add_argument(
        "--threads",
        type=cli.integer(0, cli.MOST_AT_ONCE),
        default=0,
        help="CPU threads; 0 = as many as torch chooses (default)",
    )
    parser.add_argument("--repeats", type=cli.integer(1, 1_000_000), default=9, help="steps per way (default 9)")
    parser.add_argument(
        "--precision", nargs="+", choices=["fp32", "tf32", "bf16"], default=["fp32"], help="of the engine's products"
    )
    parser.add_argument("--epoch", action="store_true", help="also time a whole epoch of the engine")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from torch import nn

    from face4d.generation.config import PRESETS, GeneratorConfig
    from face4d.generation.lstm import CoefficientGenerator, build_network
    from face4d.runtime.device import adam, autocast, describe, graphed, keep_freed_memory

    def step_of(network: Any, config: GeneratorConfig, device: torch.device) -> Any:
        """The optimiser step of main.py on a network, step(targets (M, B, T + 1, L, 3), labels (B,), key=start
        frame).
        """
        optimizer = adam(network, config.lr, device)

        @graphed(device)
        def step(targets: Any, labels: Any, *, key: int) -> Any:
            optimizer.zero_grad()
            with autocast(config, device):
                loss = (
                    (network(targets[0, :, key], labels, targets.shape[2] - 1 - key) - targets[:, :, key + 1 :])
                    .square()
                    .mean()
                )
            loss.backward()
            if config.grad_clip:
                nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            optimizer.step()
            return loss.detach()

        return step

    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()
    device = torch.device(args.device)
    print(
        f"torch {torch.__version__}, {describe(device)}, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.1f}; medians"
    )
    print(
        f"{'case':<14}{'products':>9}{'horizon':>8}{'plain':>11}{'engine':>11}{'ratio':>7}"
        f"{'plain epoch':>14}{'engine epoch':>16}{'GFLOP/s':>9}"
    )
    for name, precision in itertools.product(args.only, args.precision):
        kind, classes, width, sequences, batch, last, horizons = CASES[name]
        thesis = kind == "thesis"
        settings = PRESETS["thesis" if thesis else "default"].with_settings(
            {"hidden_size": width, "components": 16, "loss": "l2", "precision": precision}
        )
        torch.manual_seed(27)
        network = build_network(settings, classes).to(device)
        horizon = (last + 1) // 2 if horizons == "every" else last
        steps = sequences / batch * (last if horizons == "every" else 1)  # the smaller last batch counts by its size
        steps *= (last + 1) / 2 / horizon if horizons == "every" else 1
        data = 0.01 * torch.randn(1, sequences, last + 1, 68, 3, device=device)  # (M, N, T+1, L, 3)
        labels = torch.arange(sequences, device=device) % classes
        if isinstance(network, CoefficientGenerator):
            network.fit_basis(data.flatten(0, 2).cpu())
        plain_network = copy.deepcopy(network)
        plain_network.engine = "plain"
        begin, one = last - horizon, data[:, :batch]
        plain_step, fast_step = step_of(plain_network, settings, device), step_of(network, settings, device)

        def plain(targets: Any = one, labels: Any = labels[:batch], begin: int = begin, step: Any = plain_step) -> Any:
            return step(targets, labels, key=begin)

        def ours(targets: Any = one, labels: Any = labels[:batch], begin: int = begin, step: Any = fast_step) -> Any:
            return step(targets, labels, key=begin)

        seconds: dict[str, list[float]] = {"plain": [], "engine": []}
        for repeat in range(args.repeats + 2):
            for way, step in (("plain", plain), ("engine", ours)):
                begun = time.perf_counter()
                step().item()  # waits for the device
                if repeat > 1:  # the first two warm up, and are captured
                    seconds[way].append(time.perf_counter() - begun)
        slow, fast = (statistics.median(seconds[way]) for way in ("plain", "engine"))
        frame_size = 204 if thesis else 16
        weights = 4 * width * (frame_size + width) + width * width + width * frame_size
        rate = 6 * weights * batch * horizon / fast / 1e9  # forward, backward, weight gradient; multiply and add
        epochs = [f"{steps * value:.2f} s" for value in (slow, fast)]
        print(
            f"{name:<14}{precision:>9}{horizon:>8}{1e3 * slow:>8.1f} ms{1e3 * fast:>8.1f} ms{slow / fast:>7.2f}"
            f"{epochs[0]:>14}{epochs[1]:>16}{rate:>9.0f}",
            flush=True,
        )
        if args.epoch:
            starts = range(last - 1, -1, -1) if thesis else (0,)

            def epoch(
                step: Any = fast_step, data: Any = data, labels: Any = labels, batch: int = batch, starts: Any = starts
            ) -> float:
                total = torch.zeros((), device=device)
                for targets, own in zip(data.split(batch, dim=1), labels.split(batch)):
                    for start in starts:
                        total += step(targets, own, key=start)
                return total.item()

            times = []
            for _ in range(3 if args.device == "cuda" else 1):  # on a GPU the first two warm up, and are captured
                begun = time.perf_counter()
                epoch()
                times.append(time.perf_counter() - begun)
            print(f"{name:<14}{precision:>9}  a whole epoch: {times[-1]:.2f} s", flush=True)


if __name__ == "__main__":
    main(parse())
