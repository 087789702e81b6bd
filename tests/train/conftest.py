"""What the training room's tests share."""

import pytest
from small_data import rows, write_csv, write_votes


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """fer2013.csv with 40 Training, 8 PublicTest and 4 PrivateTest rows per label."""
    folder = tmp_path_factory.mktemp("data")
    return write_csv(folder / "fer2013.csv", rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4}))


@pytest.fixture(scope="session")
def voted(tmp_path_factory):
    """The same with FER+ votes beside it."""
    folder = tmp_path_factory.mktemp("voted")
    entries = list(rows({"Training": 40, "PublicTest": 8, "PrivateTest": 4}))
    write_votes(folder / "fer2013new.csv", entries)
    return write_csv(folder / "fer2013.csv", entries)
