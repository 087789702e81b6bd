"""What several rooms' tests need: the committed bundle, the demo's photograph, and data that users do not have."""

import importlib.util
import os
import shutil

import numpy as np
import pytest
from helpers import ROOT, SHARED, with_labels
from mien_edge.chain import photos, sources
from mien_edge.labels import LABELS
from mien_edge.model.bundle import load_bundle

# FFmpeg takes its log level at its first use in a process: a test that reads a video, run before those that look for
# secrets in its messages, would leave it at another than the product sets.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# Where a room's packages are not installed, as in .venv-edge-test, its tests are not collected.
_NEEDS = {"tensorflow": ["train", "test_docs.py"], "pyinfra": ["deploy"]}
collect_ignore = [
    path
    for package, paths in _NEEDS.items()
    if not importlib.util.find_spec(package)
    for path in paths
]

_SYSTEM_FIXTURES = {"analyze", "broker", "chromium", "devices", "postgresql"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as `system` the tests whose fixtures start a program that pip does not install; put those that train first.

    The files of the training room take longest: begun last, one of them would keep the others' workers waiting.
    """
    for item in items:
        if _SYSTEM_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.system)
    items.sort(key=lambda item: ROOT / "tests" / "train" not in item.path.parents)


@pytest.fixture(scope="session")
def bundle():
    """The bundle that the repository ships."""
    return load_bundle(ROOT / "models" / "current")


@pytest.fixture(scope="session")
def three_labels(bundle, tmp_path_factory):
    """A bundle with three labels of its own; by two of them it means what others call happy and sad."""
    rows = {"happiness": "happy", "sadness": "sad", "other": "neutral"}
    folder = tmp_path_factory.mktemp("three") / "three-1"
    return load_bundle(with_labels(bundle.folder, folder, rows, "three"))


@pytest.fixture(scope="session")
def eight_labels(bundle, tmp_path_factory):
    """A bundle with FER2013's seven labels and contempt, which it sees as rarely as disgust."""
    rows = {**{label: label for label in LABELS}, "contempt": "disgust"}
    folder = tmp_path_factory.mktemp("eight") / "eight-1"
    return load_bundle(with_labels(bundle.folder, folder, rows, "eight"))


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the bundle that a test may spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle.folder, folder)
    return folder


@pytest.fixture(scope="session")
def astronaut():
    """(512, 512, 3) BGR uint8 photograph of one face."""
    return photos.read_photo(sources.astronaut())


@pytest.fixture(scope="session")
def fer2013():
    """The real fer2013.csv.xz, where it is."""
    path = SHARED / "data" / "fer2013.csv.xz"
    if not path.exists():
        pytest.skip("the real FER2013 is not here: it is not the project's to give")
    return path


@pytest.fixture(scope="session")
def photographs():
    """The folder of labelled photographs, where it is."""
    path = SHARED / "data" / "photos"
    if not path.exists():
        pytest.skip("the labelled photographs are not here: they are not the project's to give")
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch, request):
    """Each test has a cache of its own, but for those that read the real data."""
    if "fer2013" not in request.fixturenames:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "no-models"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)


@pytest.fixture
def gray():
    """(48, 64) uint8 gray gradient."""
    return np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint8)


@pytest.fixture(scope="module")
def chromium():
    """A real browser; the test skips where there is none.

    It ends with its module: while it is open, its driver's event loop runs in this thread, and no other can.
    """
    program = (
        shutil.which("chromium")
        or shutil.which("google-chrome")
        or shutil.which("chromium-browser")
    )
    playwright = pytest.importorskip("playwright.sync_api")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
