"""The TensorFlow Lite interpreter, whichever this device has, around one classifier file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien_edge.contract import LABELS, Quantization
from mien_edge.errors import BundleError, RuntimeMissingError
from mien_edge.values import Floats, Pixels

_RUNTIMES = (("ai-edge-litert", "ai_edge_litert.interpreter"), ("tflite-runtime", "tflite_runtime.interpreter"))


@dataclass(frozen=True, slots=True)
class Runtime:
    """An installed interpreter package. `create(path, threads, reference)` makes an interpreter."""

    name: str
    create: Callable[[Path, int, bool], Any]

    @property
    def version(self) -> str:
        """As installed."""
        from importlib.metadata import version  # four megabytes that a service does not need

        return version(self.name)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def load(self, path: Path, threads: int = 1, reference: bool = False) -> Any:
        """An interpreter with its tensors allocated. Raises BundleError for a file that it refuses."""
        try:
            interpreter = self.create(path, threads, reference)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as problem:
            first_line = (str(problem).splitlines() or ["no reason given"])[0]
            raise BundleError(f"{path}: the interpreter refuses it ({first_line}); copy the bundle again") from None
        except SystemError as problem:
            raise RuntimeMissingError(
                f"{self} does not work with NumPy {np.__version__} ({problem}); pip install 'numpy<2'"
            ) from None
        return interpreter


def runtime() -> Runtime:
    """The first installed of ai-edge-litert and tflite-runtime. Raises RuntimeMissingError if there is none."""
    problems = []
    for package, module in _RUNTIMES:
        try:
            imported = importlib.import_module(module)
        except ImportError as problem:
            absent = isinstance(problem, ModuleNotFoundError) and problem.name == module.partition(".")[0]
            problems.append(f"{package} is not installed" if absent else f"{package} does not load ({problem})")
        else:
            return Runtime(package, _creator(imported))
    raise RuntimeMissingError(f"no TensorFlow Lite interpreter: {'; '.join(problems)}; pip install 'mien[edge]'")


def _creator(module: Any) -> Callable[[Path, int, bool], Any]:
    def create(path: Path, threads: int, reference: bool) -> Any:
        resolvers = module.OpResolverType
        resolver = resolvers.BUILTIN_REF if reference else resolvers.AUTO
        return module.Interpreter(model_path=str(path), num_threads=threads, experimental_op_resolver_type=resolver)

    return create


class Classifier:
    """An int8 network that turns one (size, size) uint8 crop into 7 output steps.

    The interpreter is built once. `reference` chooses the plain kernels that give the same numbers on every machine.
    Shapes, dtypes, scales and zero points are read from the file. Raises BundleError if they are not the contract's.
    """

    def __init__(self, path: Path, threads: int = 1, reference: bool = False) -> None:
        self.runtime = runtime()
        self._interpreter = self.runtime.load(path, threads, reference)
        source, sink = self._only(path, "input"), self._only(path, "output")
        self.input, self.output = _quantization(path, source), _quantization(path, sink)
        self.size = _check_shapes(path, source, sink)
        self._source, self._sink = source["index"], sink["index"]
        self._steps = self.input.quantize(np.arange(256) / 255)

    def _only(self, path: Path, side: str) -> Any:
        tensors = getattr(self._interpreter, f"get_{side}_details")()
        if len(tensors) != 1:
            raise BundleError(f"{path}: {len(tensors)} {side}s where the contract has one; export the bundle again")
        return tensors[0]

    def __call__(self, crop: Pixels) -> Any:
        """(size, size) uint8 to the raw output, (7,) int8 or uint8."""
        self._interpreter.set_tensor(self._source, self._steps[crop][None, ..., None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._sink)[0]

    def logits(self, crop: Pixels) -> Floats:
        """(size, size) uint8 to (7,) float32."""
        return self.output.dequantize(self(crop))


def _quantization(path: Path, tensor: Any) -> Quantization:
    scale, zero_point = tensor["quantization"]
    dtype = np.dtype(tensor["dtype"]).name
    if dtype not in ("uint8", "int8") or not scale > 0:
        raise BundleError(f"{path}: {tensor['name']} is {dtype}, not 8-bit quantised; export the bundle again")
    return Quantization(float(scale), int(zero_point), dtype)  # type: ignore[arg-type]


def _check_shapes(path: Path, source: Any, sink: Any) -> int:
    taken, given = [int(n) for n in source["shape"]], [int(n) for n in sink["shape"]]
    if len(taken) != 4 or taken[0] != 1 or taken[1] != taken[2] or taken[3] != 1:
        raise BundleError(f"{path}: input shape {taken} where [1, n, n, 1] is needed; export the bundle again")
    if given != [1, len(LABELS)]:
        raise BundleError(f"{path}: output shape {given} where [1, {len(LABELS)}] is needed; export the bundle again")
    return taken[1]
