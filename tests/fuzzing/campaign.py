"""Many executions of one reader: rounds in forked processes, which may crash or hang, and what was found, made short.

Run by ``benchmarks/fuzz.py`` as ``python -m tests.fuzzing.campaign``; prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from tests.fuzzing import Reader, check, readers
from tests.fuzzing.mutations import damaged

_ROUND = 2000  # executions of one process
_COPIES = 4  # further damaged copies of every file that hypothesis makes, which takes most of the time
_HANGS = 20  # seconds after which a process is ended
_TRIES = 600  # to make one finding shorter


def kind_of(error: BaseException) -> str:
    """What tells findings apart: type and innermost place in the library (or in what is asserted of its results)."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = (
        [frame for frame in frames if "/face4d/" in frame.filename]
        or [frame for frame in frames if "/fuzzing/" in frame.filename]
        or frames
    )
    place = f"{os.path.basename(inside[-1].filename)}:{inside[-1].lineno} {inside[-1].name}"
    said = re.sub(r"\d+", "N", str(error).split(":")[0][:60]) if isinstance(error, AssertionError) else ""
    return " ".join(f"{type(error).__name__} {said} at {place}".split())


def outcome(reader: Reader, path: Path) -> str | None:
    """Kind of what goes wrong with the file, or None."""
    signal.alarm(_HANGS)
    try:
        check(reader, path)
    except Exception as error:
        return kind_of(error)
    finally:
        signal.alarm(0)
    return None


def in_child(work: Callable[[Callable[[object], None]], None]) -> Iterator[tuple[str, object]]:
    """Run ``work`` in a forked process; yields ("said", x) for all that it sends, then ("ended", (wait status, peak
    MB))."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiver)
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with os.fdopen(sender, "w") as pipe:
                work(lambda item: print(json.dumps(item), file=pipe, flush=True))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        for line in pipe:
            if line.endswith("\n"):
                yield "said", json.loads(line)
    _, status, usage = os.wait4(child, 0)
    yield "ended", (status, usage.ru_maxrss / 1024)


def died(status: int) -> str | None:
    """Words for a process that did not end by itself."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            f"no answer within {_HANGS} s"
            if number == signal.SIGALRM
            else f"the process ends by {signal.Signals(number).name}"
        )
    return f"the process ends with code {os.WEXITSTATUS(status)}" if status else None


def explore(
    reader: Reader, path: Path, number: int, executions: int, known: dict[str, bytes], say: Callable[[object], None]
) -> None:
    """One round, in a child: says new or shorter findings, the slowest input and how many executions there were."""
    count, slowest, before, random = 0, 0.0, b"", Random(number)

    @seed(number)
    @settings(
        max_examples=-(-executions // (1 + _COPIES)),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(reader.files)
    def examples(content: bytes) -> None:
        nonlocal before
        execute(content)
        for _ in range(_COPIES):
            execute(damaged(random, content, before))
        before = content

    def execute(content: bytes) -> None:
        nonlocal count, slowest
        path.write_bytes(content)
        begun = time.perf_counter()
        kind = outcome(reader, path)
        taken = time.perf_counter() - begun
        count += 1
        if kind is not None and (kind not in known or len(content) < len(known[kind])):
            known[kind] = content
            say({"kind": kind, "content": content.hex()})
        if taken > slowest:
            slowest = taken
            say({"seconds": taken, "content": content.hex()})
        if not count % 100:
            say({"count": count})

    examples()
    say({"count": count})


def shortest(reader: Reader, path: Path, kind: str, content: bytes) -> bytes:
    """The content with all left out that can be left out while the same goes wrong."""

    def same(candidate: bytes) -> bool:
        path.write_bytes(candidate)
        found = None
        for event, item in in_child(lambda say: say(outcome(reader, path))):
            found = item if event == "said" else died(item[0]) or found
        return found == kind

    tries, size = 0, max(1, len(content) // 2)
    while tries < _TRIES:
        place, before = 0, len(content)
        while place < len(content) and tries < _TRIES:
            candidate = content[:place] + content[place + size :]
            tries += 1
            if same(candidate):
                content = candidate
            else:
                place += size
        if size == 1 and len(content) == before:
            break
        size = max(1, size // 2)
    return content


def campaign(reader: Reader, executions: int, first_seed: int) -> dict[str, Any]:
    """The numbers of one reader and its findings, content in hexadecimal."""
    known: dict[str, bytes] = {}
    done, number, peak, slowest, slowest_content = 0, first_seed, 0.0, 0.0, ""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = reader.path(Path(folder))
        path.write_bytes(b"")
        with contextlib.suppress(Exception):
            reader.read(path)  # imports, which take more room than a file may
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        while done < executions:
            wanted, count = min(_ROUND, executions - done), 0
            work = partial(explore, reader, path, number, wanted, dict(known))
            for event, item in in_child(work):
                if event == "ended":
                    status, megabytes = item
                    peak = max(peak, megabytes - start)
                    if kind := died(status):
                        content = path.read_bytes()
                        if kind not in known or len(content) < len(known[kind]):
                            known[kind] = content
                        count += 1
                elif "kind" in item:
                    known[item["kind"]] = bytes.fromhex(item["content"])
                elif "seconds" in item:
                    if item["seconds"] > slowest:
                        slowest, slowest_content = item["seconds"], item["content"]
                else:
                    count = item["count"]
            done += max(count, 1)
            number += 1
        taken = time.perf_counter() - begun
        findings = {kind: shortest(reader, path, kind, content).hex() for kind, content in known.items()}
    return {
        "executions": done, "per_second": done / taken, "findings": findings, "peak_mb": peak,
        "slowest_seconds": slowest, "slowest": slowest_content,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("executions", type=int)
    parser.add_argument("seed", type=int)
    chosen = parser.parse_args()
    known_readers = readers()
    if chosen.reader not in known_readers:
        raise SystemExit(f"error: --reader: expected one of {', '.join(known_readers)}, found {chosen.reader}")
    warnings.simplefilter("error", RuntimeWarning)
    logging.disable()  # what is merely odd
    print(json.dumps(campaign(known_readers[chosen.reader], chosen.executions, chosen.seed)))
