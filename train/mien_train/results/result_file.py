"""The JSON files of results in a run's folder."""

import json
from pathlib import Path
from typing import Any

from mien_edge.errors import RunError


def read_result(path: Path, advice: str = "remove it") -> Any:
    """Return the values of a result's file; None where there is no such file.

    advice: what to do about a damaged one. Raises RunError for that.
    """
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        if values is None:
            raise ValueError("it holds null")
    except ValueError as problem:
        raise RunError(f"{path} is damaged ({problem}); {advice}") from None
    return values
