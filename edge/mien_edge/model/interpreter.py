"""The TensorFlow Lite interpreter, whichever this device has, around one classifier file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien_edge import files
from mien_edge.contract import Quantization
from mien_edge.errors import BundleError, RuntimeMissingError
from mien_edge.labels import MAX_COUNT, MIN_COUNT
from mien_edge.model.first_delegate import make_first_delegate
from mien_edge.values import Floats, Pixels

_RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
)
"""Packages and their modules, in the order of preference."""

TensorDetails = dict[str, Any]
"""What an interpreter says of a tensor: name, index, shape, dtype, quantization and more."""


class Interpreter(Protocol):
    """What mien uses of TensorFlow Lite's interpreter (tf.lite.Interpreter)."""

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[TensorDetails]: ...

    def get_output_details(self) -> list[TensorDetails]: ...

    def set_tensor(self, tensor_index: int, value: NDArray[Any]) -> None: ...

    def invoke(self) -> None: ...

    def get_tensor(self, tensor_index: int) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """An installed interpreter package.

    name: the package.
    create: makes an interpreter of a file, with that many threads; True for the reference kernels.
    """

    name: str
    create: Callable[[Path, int, bool], Interpreter]

    @property
    def version(self) -> str:
        """The installed version of the package."""
        from importlib.metadata import version  # four megabytes that a service does not need

        return version(self.name)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def load(self, path: Path, threads: int = 1, reference: bool = False) -> Interpreter:
        """Return an interpreter of the .tflite file `path` with its tensors allocated.

        threads: how many it may use.
        reference: choose the plain kernels that give the same numbers on every machine.

        Raises BundleError for a file that it refuses, and RuntimeMissingError if the package does
        not work here.
        """
        try:
            interpreter = self.create(path, threads, reference)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            lines = str(error).splitlines() or ["no reason given"]
            raise BundleError(
                f"{path}: the interpreter refuses it ({lines[0]}); copy the bundle again",
            ) from None
        except SystemError as error:
            raise RuntimeMissingError(
                f"{self} does not work with NumPy {np.__version__} ({error}); "
                "pip install 'numpy<2'",
            ) from None
        return interpreter


def find_runtime() -> Runtime:
    """Return the first installed one of ai-edge-litert and tflite-runtime.

    Raises RuntimeMissingError if none is installed and loads.
    """
    reasons = []
    for package, module_name in _RUNTIMES:
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            reasons.append(_reason(package, module_name, error))
        else:
            return Runtime(package, _creator(module))
    raise RuntimeMissingError(
        f"no TensorFlow Lite interpreter: {'; '.join(reasons)}; pip install 'mien[edge]'",
    )


def _reason(package: str, module_name: str, error: ImportError) -> str:
    top_level = module_name.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == top_level:
        return f"{package} is not installed"
    return f"{package} does not load ({error})"


def _creator(module: Any) -> Callable[[Path, int, bool], Interpreter]:
    def create(path: Path, threads: int, reference: bool) -> Interpreter:
        resolvers = module.OpResolverType
        resolver = resolvers.BUILTIN_REF if reference else resolvers.AUTO
        make_first_delegate(module)
        with files.utf8_path(path) as name:
            interpreter: Interpreter = module.Interpreter(
                model_path=name,
                num_threads=threads,
                experimental_op_resolver_type=resolver,
            )
        return interpreter

    return create


class Classifier:
    """An int8 network that turns one (size, size) uint8 crop into the output steps of its labels.

    The interpreter is built once. Shapes, dtypes, scales and zero points are read from the file.

    path: the .tflite file.
    threads: how many the interpreter may use.
    reference: choose the plain kernels that give the same numbers on every machine.

    runtime: the interpreter's package.
    size: height and width of the input in pixels.
    outputs: how many labels it tells apart; which they are, the card says.
    input, output: the quantisation of the network's ends.

    Raises BundleError if the file is not as the contract says, and RuntimeMissingError without an
    interpreter.
    """

    def __init__(self, path: Path, threads: int = 1, reference: bool = False) -> None:
        self.runtime = find_runtime()
        self._interpreter = self.runtime.load(path, threads, reference)
        input_details = _only(path, "input", self._interpreter.get_input_details())
        output_details = _only(path, "output", self._interpreter.get_output_details())
        self.input = _quantization(path, input_details)
        self.output = _quantization(path, output_details)
        self.size = _input_size(path, input_details)
        self.outputs = _output_count(path, output_details)
        self._input_index = input_details["index"]
        self._output_index = output_details["index"]
        self._steps_of_gray = self.input.quantize(np.arange(256) / 255)

    def __call__(self, crop: Pixels) -> NDArray[Any]:
        """Run the network.

        crop: (size, size) uint8.

        Returns the raw output, (outputs,) int8 or uint8.
        """
        steps = self._steps_of_gray.take(crop)[None, ..., None]
        self._interpreter.set_tensor(self._input_index, steps)
        self._interpreter.invoke()
        output: NDArray[Any] = self._interpreter.get_tensor(self._output_index)[0]
        return output

    def logits(self, crop: Pixels) -> Floats:
        """Run the network.

        crop: (size, size) uint8.

        Returns the logits that the output stands for, (outputs,) float32.
        """
        return self.output.dequantize(self(crop))


def _only(path: Path, side: str, tensors: list[TensorDetails]) -> TensorDetails:
    if len(tensors) != 1:
        raise BundleError(
            f"{path}: {len(tensors)} {side}s where the contract has one; export the bundle again",
        )
    return tensors[0]


def _quantization(path: Path, tensor: TensorDetails) -> Quantization:
    scale, zero_point = tensor["quantization"]
    dtype = np.dtype(tensor["dtype"]).name
    if dtype not in ("uint8", "int8") or not scale > 0:
        raise BundleError(
            f"{path}: {tensor['name']} is {dtype}, not 8-bit quantised; export the bundle again",
        )
    return Quantization(float(scale), int(zero_point), dtype)  # type: ignore[arg-type]


def _input_size(path: Path, tensor: TensorDetails) -> int:
    """The height and width of the input."""
    shape = [int(length) for length in tensor["shape"]]
    is_gray_square = len(shape) == 4 and shape == [1, shape[1], shape[1], 1]
    if not is_gray_square:
        raise BundleError(
            f"{path}: input shape {shape} where [1, n, n, 1] is needed; export the bundle again",
        )
    return shape[1]


def _output_count(path: Path, tensor: TensorDetails) -> int:
    """How many labels the output has a logit of."""
    shape = [int(length) for length in tensor["shape"]]
    is_row = len(shape) == 2 and shape[0] == 1
    if not is_row or not MIN_COUNT <= shape[1] <= MAX_COUNT:
        raise BundleError(
            f"{path}: output shape {shape} where [1, {MIN_COUNT}] to [1, {MAX_COUNT}] is needed; "
            "export the bundle again",
        )
    return shape[1]
