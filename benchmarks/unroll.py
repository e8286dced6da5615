"""Optimiser steps of the generators: the unrolled engine against the plain LSTMCell loop through autograd.

    python benchmarks/unroll.py
    python benchmarks/unroll.py --only coma default --threads 1 --repeats 20

Both run in turn in one process, so that what else the machine does falls on both. A step is the forward pass, the loss, the backward
pass and Adam. The cost of a step grows linearly with its horizon, so an epoch of the thesis' schedule (one step for every horizon
1..T) is estimated as steps per epoch times a step at the mean horizon.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

CASES = {  # network, classes, hidden size, sequences, batch, T, horizons per batch
    "coma": ("thesis", 12, 256, 108, 25, 40, "every"),
    "florence": ("thesis", 10, 1024, 100, 25, 60, "every"),
    "default": ("coefficients", 10, 128, 100, 50, 60, "first"),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = as many as torch chooses (default)")
    parser.add_argument("--repeats", type=int, default=9, help="steps per way (default 9)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from torch.nn import functional

    from face4d.generation.lstm import CoefficientGenerator, ThesisGenerator

    def plain_thesis(network, start, labels, frames):
        label_code = network.fc_enc(functional.one_hot(labels, network.num_labels).to(start.dtype))
        frame = start.flatten(1)
        hidden, cell = network.fc_inh(frame), network.fc_inc(frame)
        outputs = []
        for _ in range(frames):
            hidden, cell = network.lstm(torch.cat([frame, label_code], dim=1), (hidden, cell))
            frame = network.fc_2(torch.relu(network.fc_1(hidden)))
            outputs.append(frame)
        return torch.stack(outputs, dim=1).unflatten(2, start.shape[1:])

    def plain_coefficients(network, start, labels, frames):
        label_code = network.fc_enc(labels)
        frame = (start.flatten(1) @ network.basis) / network.scale
        hidden, cell = network.fc_init(torch.cat([frame, label_code], dim=1)).tanh().chunk(2, dim=1)
        outputs = []
        for position in network.position_code(frames):
            code = torch.cat([label_code, position.expand(len(label_code), -1)], dim=1)
            hidden, cell = network.lstm(torch.cat([frame, code], dim=1), (hidden, cell))
            frame = network.fc_2(torch.relu(network.fc_1(torch.cat([hidden, code], dim=1))))
            outputs.append(frame)
        return ((torch.stack(outputs, dim=1) * network.scale) @ network.basis.T).unflatten(2, start.shape[1:])

    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; medians")
    print(f"{'case':<10}{'horizon':>8}{'plain':>11}{'unrolled':>11}{'ratio':>7}{'plain epoch':>14}{'unrolled epoch':>16}{'GFLOP/s':>9}")
    for name in args.only:
        kind, classes, width, sequences, batch, last, horizons = CASES[name]
        torch.manual_seed(27)
        thesis = kind == "thesis"
        network = (ThesisGenerator(classes, width) if thesis else CoefficientGenerator(classes, width, 16)).to(device)
        horizon = (last + 1) // 2 if horizons == "every" else last
        steps = sequences / batch * (last if horizons == "every" else 1)  # the smaller last batch counts by its size
        steps *= (last + 1) / 2 / horizon if horizons == "every" else 1
        target = 0.01 * torch.randn(batch, horizon, 68, 3, device=device)
        start, labels = 0.01 * torch.randn(batch, 68, 3, device=device), torch.randint(classes, (batch,), device=device)
        if not thesis:
            network.fit_basis(torch.cat([start, target.flatten(0, 1)]).cpu())
        plain = plain_thesis if thesis else plain_coefficients
        ways = {
            "plain": (lambda *a, n=network, f=plain: f(n, *a), torch.optim.Adam(network.parameters())),
            "unrolled": (network, torch.optim.Adam(network.parameters(), fused=True)),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(args.repeats + 1):
            for way, (forward, optimizer) in ways.items():
                begun = time.perf_counter()
                loss = (forward(start, labels, horizon) - target).square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                loss.item()  # waits for the device
                if repeat:  # the first of each warms up
                    seconds[way].append(time.perf_counter() - begun)
        slow, fast = (statistics.median(seconds[way]) for way in ("plain", "unrolled"))
        frame_size = 204 if thesis else 16
        weights = 4 * width * (frame_size + width) + width * width + width * frame_size
        rate = 6 * weights * batch * horizon / fast / 1e9  # forward, backward, weight gradient; multiply and add
        epochs = [f"{steps * value:.2f} s" for value in (slow, fast)]
        print(f"{name:<10}{horizon:>8}{1e3 * slow:>8.1f} ms{1e3 * fast:>8.1f} ms{slow / fast:>7.2f}{epochs[0]:>14}{epochs[1]:>16}{rate:>9.0f}")


if __name__ == "__main__":
    main(parse())
