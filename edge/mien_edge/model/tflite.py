"""What a .tflite file consists of: its operators, what each costs, and what that may take on a Raspberry Pi."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien_edge.errors import RuntimeMissingError


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a .tflite: its name, the dtypes it touches, its multiply-accumulates, the shape of its output."""

    name: str
    dtypes: tuple[str, ...]
    macs: int
    shape: tuple[int, ...]


_MACS_PER_OUTPUT = {"CONV_2D": (1, 2, 3), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1,)}


def operators(content: bytes) -> list[Operator]:
    """The operators of a .tflite file in order of execution."""
    types = _names(_schema().TensorType)
    found = []
    for name, operator, tensors in _walk(content):
        touched = [tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
        out = tuple(int(n) for n in tensors[operator.outputs[0]].shape)
        macs = 0
        if name in _MACS_PER_OUTPUT:
            weights = tensors[operator.inputs[1]].shape
            macs = int(np.prod(out) * np.prod([weights[axis] for axis in _MACS_PER_OUTPUT[name]]))
        found.append(Operator(name, tuple(sorted({types[tensor.type] for tensor in touched})), macs, out))
    return found


def parameters(content: bytes) -> int:
    """How many weights and biases a .tflite file holds; shared ones count once."""
    used = {
        i: int(np.prod(tensors[i].shape))
        for name, operator, tensors in _walk(content)
        if name in _MACS_PER_OUTPUT
        for i in operator.inputs[1:]
        if i >= 0
    }
    return sum(used.values())


def weights(content: bytes) -> list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Name, kernel and bias of each operator that has a kernel, in order, as the real numbers that the integers stand
    for (Jacob et al. 2018), in the file's layout: a kernel's output channels first, a depthwise one's channels last.
    Raises ValueError where one is not int8, or has no bias.
    """
    buffers, types = _model(content).buffers, _names(_schema().TensorType)

    def real(tensor: Any) -> NDArray[np.float32]:
        stored = types[tensor.type]
        dtype = {"INT8": np.int8, "INT32": np.int32}.get(stored)
        if dtype is None:
            raise ValueError(f"weights of {stored}")
        values = np.frombuffer(bytes(buffers[tensor.buffer].data), dtype).reshape(tensor.shape)
        scale, zero = np.array(tensor.quantization.scale), np.array(tensor.quantization.zeroPoint)
        shape = np.ones(values.ndim, int)
        shape[tensor.quantization.quantizedDimension] = len(scale)
        found: NDArray[np.float32] = ((values - zero.reshape(shape)) * scale.reshape(shape)).astype(np.float32)
        return found

    found = []
    for name, operator, tensors in _walk(content):
        if name in _MACS_PER_OUTPUT:
            _, kernel, bias = operator.inputs
            if bias < 0:
                raise ValueError(f"a {name} without bias")
            found.append((name, real(tensors[kernel]), real(tensors[bias])))
    return found


def truncate(content: bytes, count: int) -> bytes:
    """The same network, ended after its first `count` operators: a .tflite whose output is theirs."""
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
    """(name, operator, all tensors) of each operator."""
    model = _model(content)
    names, graph = _names(_schema().BuiltinOperator), model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        yield names[max(code.builtinCode, code.deprecatedBuiltinCode)], operator, graph.tensors


def _model(content: bytes) -> Any:
    schema = _schema()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise RuntimeMissingError(
            "reading a .tflite's operators needs ai-edge-litert, which this device has no wheel of; do it elsewhere"
        ) from None
    return schema_py_generated


def _names(enumeration: Any) -> dict[int, str]:
    return {value: key for key, value in vars(enumeration).items() if not key.startswith("_")}
