"""What a .tflite file consists of: its operators, what each costs, and what that may take on a Raspberry Pi."""

from collections.abc import Iterator, Sequence
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


def prefix(content: bytes, count: int) -> bytes:
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


# --- estimates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Core:
    """Multiply-accumulates that one core does in a second with XNNPACK's int8 kernels, in thousand millions."""

    name: str
    convolution: float
    depthwise: float
    source: str


_V1, _V2 = (551.4, 17.4), (280.1, 20.7)
"""Million multiply-accumulates of MobileNet v1 and v2 at 224 pixels: (convolutions and dense layers, depthwise),
counted on Keras' MobileNet and MobileNetV2."""
_V1_MS, _V2_MS, _THREADS = 24.0, 17.0, 4
"""int8 on a Raspberry Pi 4 (Cortex-A72, 1.5 GHz, ARM64, all four cores), XNNPACK's README, February 2022."""


def _cortex_a72() -> Core:
    convolution, depthwise = np.linalg.solve(np.array([_V1, _V2]), np.array([_V1_MS, _V2_MS]))
    source = (
        f"XNNPACK's README: int8 MobileNet v1 {_V1_MS:.0f} ms and v2 {_V2_MS:.0f} ms on a Raspberry Pi 4, four cores; "
        f"{_V1[0]} x + {_V1[1]} y = {_V1_MS:.0f} and {_V2[0]} x + {_V2[1]} y = {_V2_MS:.0f} give "
        f"x = {convolution:.4f} and y = {depthwise:.3f} ms a million, over {_THREADS} cores"
    )
    return Core("Cortex-A72 1.5 GHz (Pi 4)", 1 / convolution / _THREADS, 1 / depthwise / _THREADS, source)


def _cortex_a76(known: Core) -> Core:
    source = (
        "the A72's rates times 2.4 / 1.5 for the clock; convolutions times 2 more, taken as the least that SDOT gives "
        "over SMLAL (on paper 32 against 8 a cycle), depthwise ones times 1, for they have no dot product; not measured"
    )
    clock = 2.4 / 1.5
    return Core("Cortex-A76 2.4 GHz (Pi 5)", known.convolution * clock * 2, known.depthwise * clock, source)


def estimates(found: Sequence[Operator]) -> dict[str, dict[str, Any]]:
    """Milliseconds on one core of a Raspberry Pi 4 and 5 by multiply-accumulates alone, with the arithmetic. Small
    layers reach less than MobileNet's rate, and memory is not counted: good for comparing networks, not a promise.
    """
    depthwise = sum(each.macs for each in found if each.name == "DEPTHWISE_CONV_2D") / 1e6
    others = sum(each.macs for each in found) / 1e6 - depthwise
    a72 = _cortex_a72()
    return {
        core.name: {
            "milliseconds": round(others / core.convolution + depthwise / core.depthwise, 3),
            "arithmetic": (
                f"{others:.2f} M / {core.convolution:.2f} G/s + {depthwise:.2f} M / {core.depthwise:.2f} G/s"
            ),
            "rates": core.source,
        }
        for core in (a72, _cortex_a76(a72))
    }


def estimate_as_text(core: str, found: dict[str, Any]) -> str:
    """One core's estimate and its arithmetic in two lines."""
    return f"estimate for one {core}: {found['arithmetic']} = {found['milliseconds']:.2f} ms\n    ({found['rates']})"
