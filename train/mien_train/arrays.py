"""Kinds of arrays, by what they hold. Their shapes stand in the docstrings of the functions that
take and return them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int8]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
