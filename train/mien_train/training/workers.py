"""Several processes that train one network together, on one machine or several: data-parallel
training on JAX's backend.

Each has the same command and run folder, and Keras' variables
KERAS_DISTRIBUTION_JOB_ADDRESSES (HOST:PORT of each, the first the chief's),
KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID (from 0). Each makes its rows of
every batch; gradients and the statistics of batch normalization are those of the whole batch, so
that the result is what one process computes, up to the order of sums.
"""

import os
from collections.abc import Sequence

import keras
import numpy as np
from mien_edge.errors import RunError

_COUNT = "KERAS_DISTRIBUTION_NUM_PROCESSES"


def join() -> None:
    """Join the other processes where the environment names some; call it before anything is
    computed.

    Raises RunError where the environment asks for what this version or backend cannot do.
    """
    if os.environ.get("TF_CONFIG"):
        raise RunError(
            f"TF_CONFIG is no longer read; set KERAS_BACKEND=jax, {_COUNT} and its sisters "
            "(see train/README.md), and unset TF_CONFIG"
        )
    if not os.environ.get(_COUNT):
        return
    if keras.backend.backend() != "jax":
        raise RunError(f"{_COUNT} is set: several processes train on JAX's; set KERAS_BACKEND=jax")
    keras.distribution.initialize()


def count() -> int:
    """Return how many processes train together."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def number() -> int:
    """Return this process's number, from 0."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


def is_chief() -> bool:
    """Whether this process is the one that validates, writes and shows progress."""
    return number() == 0


def wait_for_all() -> None:
    """Wait until every process has come here."""
    from_chief([0.0])


def from_chief(values: Sequence[float]) -> list[float]:
    """Return the chief's values, in every process; it waits for all."""
    if count() == 1:
        return list(values)
    from jax.experimental import multihost_utils

    own = np.array(values, np.float64)
    return multihost_utils.broadcast_one_to_all(own).tolist()  # type: ignore[no-any-return]
