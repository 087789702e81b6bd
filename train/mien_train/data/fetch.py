"""FER2013 from Kaggle, with the user's own token."""

import os
import shutil
from pathlib import Path

from mien_edge.errors import DataError


def fetch(dataset: str, into: Path) -> Path:
    """Download a Kaggle data set into a folder with kagglehub. Raises DataError telling how to get a token."""
    token = Path.home() / ".kaggle"
    if not any(name in os.environ for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN")) and not any(
        (token / name).is_file() for name in ("kaggle.json", "access_token")
    ):
        raise DataError(
            "no Kaggle token; at kaggle.com choose Settings, API, 'Create new token', put the file at "
            f"{token / 'kaggle.json'} (or set KAGGLE_API_TOKEN), and run this again"
        )
    if into.exists() and any(into.iterdir()):
        raise DataError(f"{into} is not empty; remove it, or name another folder with --into")
    import kagglehub

    try:
        found = Path(kagglehub.dataset_download(dataset))
    except Exception as problem:  # the client raises whatever its HTTP library does
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise DataError(f"Kaggle refuses {dataset} ({reason}); check the token and the network") from None
    into.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(found, into, dirs_exist_ok=True)
    return into
