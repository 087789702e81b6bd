"""Keeps TensorFlow Lite's note of its first delegate off the terminal.

LiteRT 2.3 and tflite-runtime 2.14 write 'INFO: Created TensorFlow Lite XNNPACK delegate for CPU.'
to file descriptor 2, once a process, and have no switch for it. So the first delegate of a process
is made for a network of one operator, and what is written meanwhile is looked through: nothing that
is said of a real network can be lost.
"""

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_NOTE = b"INFO: "
_STDERR = 2
_MAX_BYTES = 65536  # what a pipe holds
_NETWORK = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAA"
    "AAAMABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAA"
    "AQAAAAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAABAAAAeQAAAAEA"
    "AAABAAAADAAMAAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAHgAAAABAAAAAQAAAAEAAAAQAAAADAAMAAsAAAAAAAQA"
    "DAAAAGUAAAAAAABl"
)
"""A .tflite file: y = |x| of one number."""


@cache
def make_first_delegate(module: Any) -> None:
    """Make the first delegate of an interpreter's module, such as ai_edge_litert.interpreter."""
    with _without_notes():
        module.Interpreter(model_content=_NETWORK).allocate_tensors()


@contextmanager
def _without_notes() -> Iterator[None]:
    """Take what is written to file descriptor 2 meanwhile, and write it without the notes."""
    sys.stderr.flush()
    own_stderr = os.dup(_STDERR)
    reader, writer = os.pipe()
    os.dup2(writer, _STDERR)
    os.close(writer)
    try:
        yield
    finally:
        os.dup2(own_stderr, _STDERR)
        os.close(own_stderr)
        text = os.read(reader, _MAX_BYTES)  # its other end is closed, so that it returns
        os.close(reader)
        for line in text.splitlines(keepends=True):
            if not line.startswith(_NOTE):
                os.write(_STDERR, line)
