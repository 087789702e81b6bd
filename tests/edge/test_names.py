"""Names of files that are not UTF-8, and locales with a small alphabet, end no command.

Commands run as processes: a name is bytes for the kernel, and OpenCV ended the process at one that is not UTF-8.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mien_edge import cli, files
from mien_edge.errors import SettingsError
from mien_edge.events import EventKind
from mien_edge.log import reader
from mien_edge.settings import Settings, SourceSettings, as_toml
from mien_edge.text import encodable, file_name, printable

NAME = os.fsdecode(b"caf\xe9")
EDGE = [sys.executable, "-m", "mien_edge"]


def call(folder, *words, program=EDGE, **variables):
    """Run a command; its output must be UTF-8."""
    command = [*program, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "edge"), **variables}
    result = subprocess.run(command, capture_output=True, cwd=folder, env=environment, timeout=120)
    result.stdout = result.stdout.decode()
    result.stderr = result.stderr.decode(errors="surrogateescape")
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def folder(tmp_path, astronaut):
    """A folder with a photograph, a folder of one, and a video, all of them named so."""
    cv2.imwrite(str(tmp_path / "face.png"), astronaut)
    (tmp_path / NAME).mkdir()
    shutil.copy(tmp_path / "face.png", tmp_path / NAME / f"{NAME}.png")
    (tmp_path / "face.png").rename(tmp_path / f"{NAME}.png")
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (512, 512)
    )
    for _ in range(3):
        writer.write(astronaut)
    writer.release()
    (tmp_path / "clip.avi").rename(tmp_path / f"{NAME}.avi")
    return tmp_path


@pytest.mark.parametrize(
    "source", [f"{NAME}.avi", f"{NAME}.png", NAME], ids=["avi", "png", "folder"]
)
def test_a_source_of_such_a_name_is_read_and_stored_readably_everywhere(folder, source):
    sinks = [word for sink in ("csv", "jsonl", "log") for word in (f"--{sink}", f"{NAME}.{sink}")]
    annotated = {
        f"{NAME}.avi": f"out{NAME}.avi",
        f"{NAME}.png": f"out{NAME}.png",
        NAME: f"out{NAME}",
    }[source]
    run = call(folder, "run", source, "--json", *sinks, "--annotate", annotated)
    assert run.returncode == 0, run.stderr
    assert (folder / annotated).exists()
    shown = "caf\\xe9.avi" if source.endswith("avi") else "caf\\xe9.png"
    first = json.loads(run.stdout.splitlines()[0])
    assert first["source"] == shown
    stored = [
        json.loads(line) for line in (folder / f"{NAME}.jsonl").read_text("utf-8").splitlines()
    ]
    assert stored[0] == first
    rows = list(csv.DictReader((folder / f"{NAME}.csv").read_text("utf-8").splitlines()))
    assert rows[0]["source"] == shown
    logs = call(folder, "logs", "--log", f"{NAME}.log")
    assert logs.stdout.splitlines()[0].endswith(f"start: {file_name(source)} with edge-real-2")
    with reader.open_to_read(folder / f"{NAME}.log") as connection:
        assert next(reader.readings(connection, reader.Filter()))[1].source == shown


def test_settings_a_model_and_labels_of_such_a_name_are_read(folder, bundle):
    shutil.copytree(bundle.folder, folder / f"m{NAME}")
    (folder / f"{NAME}.toml").write_text("[quality]\n")
    (folder / f"{NAME}.csv").write_text("file,emotion\ncaf\\xe9.png,happy\n")
    options = ["--settings", f"{NAME}.toml", "--model", f"m{NAME}", "--labels", f"{NAME}.csv"]
    run = call(folder, "run", f"{NAME}.png", "--quiet", *options)
    assert run.stdout.splitlines()[1].startswith("1 labelled photographs: accuracy 100.0%")
    check = call(folder, "check", "--model", f"m{NAME}", "--json")
    assert json.loads(check.stdout)["bundle"].endswith("/mcaf\\xe9")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["run", NAME], "caf\\xe9: no such source"),
        (["run", "demo", "--settings", f"{NAME}.toml"], "caf\\xe9.toml: cannot be read"),
        (["run", "demo", "--labels", f"{NAME}.csv"], "caf\\xe9.csv: cannot be read"),
        (["run", "demo", "--model", NAME], "caf\\xe9/card.json: cannot be read"),
        (["run", f"v4l2:{NAME}"], "caf\\xe9: no such camera"),
        (["run", f"http://127.0.0.1:1/{NAME}"], "caf\\xe9: an address in UTF-8 is needed; write %E9"),
        (["logs", "--log", f"{NAME}.db"], "caf\\xe9.db: no log here"),
        (["logs", "--kind", NAME, "--log", f"{NAME}.db"], "caf\\xe9.db: no log here"),
        (["models", "install", NAME], "caf\\xe9/card.json: cannot be read"),
    ],
)  # fmt: skip
def test_a_missing_file_of_such_a_name_is_one_readable_line(
    tmp_path, monkeypatch, capsys, words, reason
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    (error,) = (
        line for line in capsys.readouterr().err.splitlines() if line.startswith("mien-edge")
    )
    assert reason in error


def test_settings_cannot_name_such_a_file_and_say_so():
    with pytest.raises(SettingsError, match=r"^source\.uri: .* is not UTF-8; rename"):
        as_toml(Settings(source=SourceSettings(uri=f"{NAME}.mp4")))


def test_a_texts_bytes_are_escaped_once_and_letters_of_every_language_stay():
    assert encodable(f"廚房 {NAME}") == printable(f"廚房 {NAME}") == "廚房 caf\\xe9"
    assert encodable("\ud83d") == "\\ud83d"
    assert file_name(Path(NAME)) == "caf\\xe9"
    assert file_name("廚房") == "廚房"


def test_a_path_for_c_code_leads_to_the_file_for_reading_and_for_writing(tmp_path):
    path = tmp_path / f"{NAME}.png"
    for _ in range(2):
        with files.utf8_path(path) as name:
            assert name.encode()
            assert cv2.imwrite(name, np.zeros((4, 4), np.uint8))
    assert cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR).shape == (4, 4, 3)
    with files.utf8_path(tmp_path / "plain.png") as name:
        assert name == str(tmp_path / "plain.png")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX, ASCII for all": ASCII,
    "misconfigured": {"LC_ALL": "xx_YY.ISO-8859-1"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ASCII output": {"PYTHONIOENCODING": "ascii"},
}


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory):
    """The variables of a Latin-1 locale, made as Debian makes them."""
    folder = tmp_path_factory.mktemp("locales")
    localedef = shutil.which("localedef")
    command = [localedef or "false", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE")]
    if subprocess.run(command, capture_output=True, check=False).returncode > 1:
        pytest.skip("localedef cannot make a locale here; it is in Debian's package locales")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE"}


@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_no_locale_ends_a_command_and_a_file_gets_utf8(folder, locale):
    for words in (["run", "--help"], ["run", f"{NAME}.png"], ["run", "nö…"]):
        assert call(folder, *words, **locale).returncode in (0, 1)
    settings = call(folder, "settings", **locale)
    if "PYTHONIOENCODING" not in locale:  # by which a user has chosen
        assert settings.stdout == as_toml(Settings())


def test_a_latin_1_locale_ends_no_command_and_reads_utf8_names(folder, latin_1):
    (folder / f"{NAME}.avi").rename(folder / "廚房.avi")
    for words in (["run", "--help"], ["settings"], ["run", f"{NAME}.png"]):
        assert call(folder, *words, **latin_1).returncode == 0
    run = call(folder, "run", "廚房.avi", "--json", "--annotate", f"ö{NAME}.avi", **latin_1)
    assert json.loads(run.stdout.splitlines()[0])["source"] == "廚房.avi"
    assert (folder / f"ö{NAME}.avi").exists()


def test_an_event_with_such_a_name_is_kept_in_the_log(tmp_path):
    (tmp_path / f"{NAME}.avi").write_bytes(b"no video")
    assert cli.main(["run", str(tmp_path / f"{NAME}.avi"), "--log", str(tmp_path / "log.db")]) == 1
    with reader.open_to_read(tmp_path / "log.db") as connection:
        (event,) = reader.events(connection, reader.Filter(), EventKind.FAILED)
    assert "caf\\xe9.avi: not a video" in event.text
