"""Spoilt cards, archives and networks, for so many minutes: what the loaders do with them, and whether anything gets
past them. python tests/system/fuzz.py [MINUTES]

Cards and archives are read in this process, as the service does: whatever is not a refusal of mien's own ends the run.
Networks are loaded and run in processes of their own, as at installation: those may die, the parent must not.
"""

import io
import os
import random
import signal
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from helpers import ROOT
from mien_edge.contract import parse_card
from mien_edge.errors import MienError
from mien_edge.model.bundle import load_bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.update.archive import receive
from mien_edge.update.store import Store
from stores import believe

BUNDLE = ROOT / "models" / "current"
TOKENS = [
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\u0000",
    b"\xff",
]
WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\1\0\0\0")
SECONDS = 20


def spoil(content, chance):
    """Some bytes changed, removed, doubled or replaced by what parsers stumble over."""
    spoilt = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        start = chance.randrange(max(len(spoilt), 1))
        kind = chance.randrange(5)
        if kind == 0 and spoilt:
            spoilt[start] = chance.randrange(256)
        elif kind == 1:
            del spoilt[start : start + chance.randrange(1, 200)]
        elif kind == 2:
            spoilt[start:start] = spoilt[start : start + chance.randrange(1, 200)]
        elif kind == 3:
            spoilt[start:start] = chance.choice(TOKENS)
        else:
            spoilt[start : start + 4] = chance.choice(WORDS)
    return bytes(spoilt)


def card(chance):
    text = spoil((BUNDLE / "card.json").read_bytes(), chance).decode("utf-8", "replace")
    try:
        parse_card(text)
    except MienError:
        return "card refused"
    return "card read: what was changed is free text or a figure"


def archive(chance):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("card.json", "golden.npz", "model.tflite"):
            tar.add(BUNDLE / name, name)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "inside"
        place = Store(folder, believe, replay=lambda *_: None)
        try:
            receive(io.BytesIO(spoil(out.getvalue(), chance)), place)
            result = "archive received: what was changed is a header's or a card's free text"
        except MienError:
            result = "archive refused"
        assert os.listdir(parent) == ["inside"], "nothing may get out of its folder"
        assert all(path.is_file() for path in folder.rglob("*") if not path.is_dir())
        assert not any(path.is_symlink() for path in folder.rglob("*"))
    return result


def network(chance):
    """In a process of its own: load it, give it a picture."""
    content = spoil((BUNDLE / "model.tflite").read_bytes(), chance)
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        memory = os.memfd_create("network")
        os.write(memory, content)
        try:
            Classifier(Path(f"/proc/self/fd/{memory}"))(np.zeros((48, 48), np.uint8))
        except MienError:
            os._exit(3)
        except BaseException:
            os._exit(4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"network ended its process by {signal.Signals(os.WTERMSIG(status)).name}: the service lives"
    results = {
        0: "network runs: golden vectors judge it",
        3: "network refused",
        4: "network raised another error",
    }
    return results[os.WEXITSTATUS(status)]


def main(minutes):
    load_bundle(BUNDLE)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the interpreter's own complaints
    chance = random.Random(time.time_ns())  # noqa: S311 - no secret
    results = Counter()
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        for kind in (card, card, card, archive, network):
            results[kind(chance)] += 1
    sys.stdout.write(f"{minutes:g} minutes, {sum(results.values())} spoilt inputs:\n")
    for result, count in sorted(results.items()):
        sys.stdout.write(f"{count:>9}  {result}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
