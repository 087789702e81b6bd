"""What a .tflite file consists of, read with ai-edge-litert's schema: operators and weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien_edge.errors import RuntimeMissingError

_MAC_AXES = {"CONV_2D": (1, 2, 3), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1,)}
"""The axes of an operator's kernel over which it sums for one value of its output."""

_WEIGHT_DTYPES = {"INT8": np.int8, "INT32": np.int32}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a .tflite file.

    name: TensorFlow Lite's name of it, such as CONV_2D.
    dtypes: the types of all tensors that it reads and writes, sorted.
    macs: its multiply-accumulates.
    shape: the shape of its output, with the batch.
    """

    name: str
    dtypes: tuple[str, ...]
    macs: int
    shape: tuple[int, ...]


class Weights(NamedTuple):
    """Kernel and bias of one operator, as real numbers in the file's layout.

    operator: TensorFlow Lite's name of it.
    kernel: its output channels are the first axis, those of a depthwise one the last.
    bias: one number for each output channel.
    """

    operator: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


class OutputRange(NamedTuple):
    """The real numbers that an operator's output can be.

    operator: TensorFlow Lite's name of it.
    """

    operator: str
    low: float
    high: float


def operators(content: bytes) -> list[Operator]:
    """Return the operators of a .tflite file in the order of execution.

    Raises RuntimeMissingError where ai-edge-litert is not installed, like every function of this
    module.
    """
    dtype_names = _names(_schema().TensorType)
    return [_describe(*entry, dtype_names) for entry in _walk(content)]


def _describe(name: str, operator: Any, tensors: Any, dtype_names: dict[int, str]) -> Operator:
    indices = [index for index in (*operator.inputs, *operator.outputs) if index >= 0]
    dtypes = {dtype_names[tensors[index].type] for index in indices}
    shape = tuple(int(length) for length in tensors[operator.outputs[0]].shape)
    macs = 0
    if name in _MAC_AXES:
        kernel_shape = tensors[operator.inputs[1]].shape
        macs_per_output = np.prod([kernel_shape[axis] for axis in _MAC_AXES[name]])
        macs = int(np.prod(shape) * macs_per_output)
    return Operator(name, tuple(sorted(dtypes)), macs, shape)


def parameters(content: bytes) -> int:
    """Return how many weights and biases a .tflite file holds; shared ones count once."""
    sizes = {}
    for name, operator, tensors in _walk(content):
        if name in _MAC_AXES:
            for index in operator.inputs[1:]:
                if index >= 0:
                    sizes[index] = int(np.prod(tensors[index].shape))
    return sum(sizes.values())


def weights(content: bytes) -> list[Weights]:
    """Return kernel and bias of each operator that has a kernel, in the order of execution.

    They are the real numbers that the integers stand for (Jacob et al. 2018). Raises ValueError
    where one is not int8 or int32, or has no bias.
    """
    buffers = _model(content).buffers
    dtype_names = _names(_schema().TensorType)
    layers = []
    for name, operator, tensors in _walk(content):
        if name not in _MAC_AXES:
            continue
        _, kernel, bias = operator.inputs
        if bias < 0:
            raise ValueError(f"a {name} without bias")
        layers.append(
            Weights(
                operator=name,
                kernel=_dequantize(tensors[kernel], buffers, dtype_names),
                bias=_dequantize(tensors[bias], buffers, dtype_names),
            ),
        )
    return layers


def ranges(content: bytes) -> list[OutputRange]:
    """Return the range of each operator's output, in the order of execution.

    Raises ValueError where one is not quantized as a whole.
    """
    outputs = []
    for name, operator, tensors in _walk(content):
        tensor = tensors[operator.outputs[0]]
        quantization = tensor.quantization
        if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
            raise ValueError(f"a {name} whose output has no scale of its own")
        scale = float(quantization.scale[0])
        zero_point = int(quantization.zeroPoint[0])
        limits = np.iinfo(np.uint8 if tensor.type == _schema().TensorType.UINT8 else np.int8)
        low = (limits.min - zero_point) * scale
        high = (limits.max - zero_point) * scale
        outputs.append(OutputRange(name, low, high))
    return outputs


def _dequantize(tensor: Any, buffers: Any, dtype_names: dict[int, str]) -> NDArray[np.float32]:
    """The real numbers of a constant tensor; scale and zero point belong to channels."""
    dtype_name = dtype_names[tensor.type]
    if dtype_name not in _WEIGHT_DTYPES:
        raise ValueError(f"weights of {dtype_name}")
    content = bytes(buffers[tensor.buffer].data)
    steps = np.frombuffer(content, _WEIGHT_DTYPES[dtype_name]).reshape(tensor.shape)
    quantization = tensor.quantization
    scale = np.array(quantization.scale)
    zero_point = np.array(quantization.zeroPoint)
    per_channel = np.ones(steps.ndim, int)
    per_channel[quantization.quantizedDimension] = len(scale)
    zero_points = zero_point.reshape(per_channel)
    scales = scale.reshape(per_channel)
    values: NDArray[np.float32] = ((steps - zero_points) * scales).astype(np.float32)
    return values


def truncate(content: bytes, count: int) -> bytes:
    """Return a .tflite file of the same network, ended after its first `count` operators.

    Its output is that of the last of them.
    """
    import flatbuffers

    model = _model(content)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    graph.outputs = graph.operators[-1].outputs
    model.signatureDefs = []
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _walk(content: bytes) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, operator and all tensors of the graph, for each operator."""
    model = _model(content)
    names = _names(_schema().BuiltinOperator)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        yield name, operator, graph.tensors


def _model(content: bytes) -> Any:
    schema = _schema()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def _schema() -> Any:
    """The generated classes of TensorFlow Lite's file format."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise RuntimeMissingError(
            "reading a .tflite file's operators needs ai-edge-litert, which is not installed here "
            "and has no wheel for some devices; do it on another machine",
        ) from None
    return schema_py_generated


def _names(enumeration: Any) -> dict[int, str]:
    return {value: key for key, value in vars(enumeration).items() if not key.startswith("_")}
