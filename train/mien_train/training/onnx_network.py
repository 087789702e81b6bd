"""The network of an ONNX file (onnx.ai), computed by ONNX Runtime on the CPU."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mien_edge.errors import RunError, RuntimeMissingError

from mien_train.arrays import Array, Floats

_FURTHER_FILES = "session.model_external_initializers_file_folder_path"  # a key of its own
_SILENT = 4  # severity: what is wrong, the exceptions say

_DTYPES = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
"""What inputs may be, beside float32."""


def load(path: Path) -> Callable[[Floats], Array]:
    """Return what computes the file's one output, (n, …), of (n, …) float32 values for its one
    input.

    Raises RuntimeMissingError where ONNX Runtime is not installed, and RunError for what is no such
    file; the function raises RunError for inputs that the network does not take.
    """
    session = _open_session(path)
    inputs = session.get_inputs()
    outputs = session.get_outputs()
    if (len(inputs), len(outputs)) != (1, 1):
        raise RunError(
            f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; export the network with "
            "the picture as its only input and the labels' values as its only output"
        )
    return _Network(path, session)


class _Network:
    """A callable as `load` returns it."""

    def __init__(self, path: Path, session: Any) -> None:
        self._path = path
        self._session = session
        self._input = session.get_inputs()[0]

    def __call__(self, pictures: Floats) -> Array:
        batch_size = self._fixed_batch_size() or len(pictures)
        starts = range(0, len(pictures), batch_size)
        batches = [pictures[start : start + batch_size] for start in starts]
        outputs = [self._run(_padded(batch, batch_size)) for batch in batches]
        return np.concatenate(outputs)[: len(pictures)]

    def _fixed_batch_size(self) -> int | None:
        """How many pictures the file takes at a time, where it says so: often one."""
        size = self._input.shape[0] if self._input.shape else None
        return size if isinstance(size, int) and size > 0 else None

    def _run(self, pictures: Floats) -> Array:
        try:
            values = pictures.astype(_DTYPES.get(self._input.type, np.float32))
            (output,) = self._session.run(None, {self._input.name: values})
        except Exception as problem:  # ONNX Runtime's have no class in common
            raise RunError(
                f"{self._path}: takes {self._input.shape} {self._input.type}, not "
                f"{list(pictures.shape)} ({_first_line(problem)}); correct input in its contract"
            ) from None
        return np.asarray(output)


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime  # an extra of its own, for these teachers alone
    except ImportError:
        raise RuntimeMissingError(
            f"{path}: ONNX Runtime is not installed; install it with: pip install 'mien[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    # Weights in further files are not pinned by the contract.
    options.add_session_config_entry(_FURTHER_FILES, os.devnull)
    content = path.read_bytes()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # as above
        raise RunError(
            f"{path}: not a network that ONNX Runtime takes ({_first_line(problem)}); get it again "
            "with its weights in the one file"
        ) from None


def _padded(pictures: Floats, count: int) -> Floats:
    """Return `count` pictures, zeros after those that are there."""
    missing = count - len(pictures)
    return np.pad(pictures, [(0, missing)] + [(0, 0)] * (pictures.ndim - 1))


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0]
