"""The commands as users call them: processes, exit codes, one line per error."""

import csv
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys

import cv2
import pytest
from helpers import ROOT, environment
from mien_edge import cli
from mien_edge.chain import sources
from mien_edge.commands import unit
from mien_edge.commands.common import command_lines

ENTRY = [sys.executable, "-m", "mien_edge"]


def call(*arguments, **more):
    return subprocess.run(
        [*ENTRY, *map(str, arguments)], capture_output=True, text=True, timeout=120, **more
    )


def test_a_photo_becomes_one_reading_and_a_picture(tmp_path, astronaut):
    cv2.imwrite(str(tmp_path / "face.png"), astronaut)
    result = call("run", tmp_path / "face.png", "--json", "--annotate", tmp_path / "out.png")
    assert result.returncode == 0, result.stderr
    reading, summary = map(json.loads, result.stdout.splitlines())
    assert (reading["source"], reading["label"], reading["track"]) == ("face.png", "happy", 1)
    assert (reading["type"], summary["type"], summary["frames"]) == ("reading", "summary", 1)
    assert cv2.imread(str(tmp_path / "out.png")).shape == (512, 512, 3)


def test_a_photograph_without_a_face_has_a_line_in_text_json_and_csv(tmp_path, astronaut):
    for name in ("a/face.png", "b/face.png"):
        (tmp_path / name).parent.mkdir()
    cv2.imwrite(str(tmp_path / "a" / "face.png"), astronaut)
    cv2.imwrite(str(tmp_path / "b" / "face.png"), astronaut[300:, 380:])
    paths = [tmp_path / "a", tmp_path / "b"]
    lines = call("run", paths[0], "--csv", tmp_path / "out.csv", paths[1]).stdout.splitlines()
    assert [("a/face.png  face 1  happy" in line, "b/face.png  (no face)" in line) for line in lines[:2]] == [
        (True, False), (False, True),
    ]  # fmt: skip
    reading = json.loads(call("run", *paths, "--json").stdout.splitlines()[1])
    summary = lines[2]
    assert "2 frames" in summary
    assert "1 readings of 1 faces" in summary
    assert [reading[key] for key in ("source", "track", "label", "quality", "scores")] == [
        "b/face.png", 0, None, "no face", None,
    ]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["source"], row["track"], row["quality"]) for row in rows] == [
        ("a/face.png", "1", "good"), ("b/face.png", "0", "no face"),
    ]  # fmt: skip


def test_a_folder_with_labels_is_scored(tmp_path, astronaut):
    cv2.imwrite(str(tmp_path / "face.png"), astronaut)
    cv2.imwrite(str(tmp_path / "wall.png"), astronaut[300:, 380:])
    (tmp_path / "sub").mkdir()
    (tmp_path / "wall.png").rename(tmp_path / "sub" / "wall.png")
    (tmp_path / "labels.csv").write_text("file,emotion\nface.png,happy\nsub/wall.png,sad\n")
    score = json.loads(call("run", tmp_path, "--json").stdout.splitlines()[-1])["score"]
    assert (score["photographs"], score["faces_missed"], score["accuracy"]) == (2, 1, 0.5)


def test_every_sink_at_once_and_the_log_is_read_back(tmp_path):
    options = [
        word for name in ("jsonl", "csv", "log") for word in (f"--{name}", tmp_path / f"r.{name}")
    ]
    settings = tmp_path / "fast.toml"
    settings.write_text("[source]\nfps = 120.0\n")
    result = call("run", "demo", "--settings", settings, "--max-frames", 60, "--quiet", *options)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert "60 frames" in result.stdout
    logs = call("logs", "--log", tmp_path / "r.log").stdout
    assert "start: demo" in logs
    assert "stop: 60 frames" in logs
    assert (
        json.loads(call("logs", "--log", tmp_path / "r.log", "--summary", "--json").stdout)[0][
            "face_minutes"
        ]
        > 0
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_cleanly_with_its_summary(number):
    with subprocess.Popen(
        [*ENTRY, "run", "demo:forever"], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "frames in" in rest.splitlines()[-1]


def test_systemd_is_told_ready_watchdog_and_stopping(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(60)
        call("run", "demo", "--max-frames", 20, env={**os.environ, "NOTIFY_SOCKET": address})
        messages = [listener.recv(1000).decode()]
        while messages[-1] != "STOPPING=1":
            messages.append(listener.recv(1000).decode())
    assert messages[0] == "READY=1"
    assert messages[1].startswith("WATCHDOG=1")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "no-such.jpg"], "no-such.jpg: no such source"),
        (["run", "v4l2:98"], "/dev/video98: no such camera"),
        (["run", "demo", "--model", "nowhere"], "nowhere/card.json: cannot be read"),
        (["run", "demo", "--settings", "none.toml"], "none.toml: cannot be read"),
        (["check", "--model", "nowhere"], "nowhere/card.json"),
        (["logs", "--log", "none.db"], "none.db: no log here"),
        (["logs", "--log", "none.db", "--since", "soon"], "'soon' is no time"),
        (["models", "install", "nowhere"], "nowhere/card.json: cannot be read"),
        (["run", "demo", "--annotate", "out"], "name a .png"),
        (["run", __file__], "not a video"),
        (["run", "*.heic"], "*.heic: matches no file"),
        (["run", "none.jpg", "demo"], "demo: a camera, an address or the demo is read alone"),
        (["run", "demo", "--labels", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(arguments, reason, tmp_path):
    result = call(*arguments, cwd=tmp_path)
    errors = [line for line in result.stderr.splitlines() if not line.startswith("INFO")]
    assert result.returncode == 1
    assert len(errors) == 1
    assert errors[0].startswith("mien-edge: error: ")
    assert reason in errors[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["models", "discard", "small-1"], "it is now mien-edge models remove; use that word"),
        (
            ["models", "discard", "--settings", "a.toml", "b"],
            "it is now mien-edge models remove; use that word",
        ),
        (["models", "shadow", "--end"], "--end is now --stop; rename it"),
        (["models", "activate", "small-1", "--wait", "3"], "--wait is now --timeout; rename it"),
        (["receive", "--wait=3"], "--wait is now --timeout; rename it"),
    ],
)
def test_a_word_of_an_earlier_version_is_a_usage_error_that_names_the_new_one(
    arguments, line, capsys
):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {line}")


def test_words_of_earlier_versions_are_not_among_the_choices_of_an_error():
    result = call("models", "x")
    assert result.returncode == 2
    assert "choose from" in result.stderr
    assert "discard" not in result.stderr


def test_words_of_earlier_versions_are_not_in_the_help():
    for name in ("shadow", "activate"):
        text = call("models", name, "--help").stdout
        assert "--end" not in text
        assert "--wait" not in text
    assert "discard" not in call("models", "--help").stdout


def test_usage_errors_exit_with_2_and_debug_shows_a_traceback():
    assert call("run", "demo", "--no-such-option").returncode == 2
    result = call("run", "no-such.jpg", env={**os.environ, "MIEN_DEBUG": "1"})
    assert "Traceback" in result.stderr


def test_a_missing_package_is_one_line_with_what_to_install():
    python = environment(".venv-edge")
    code = "import sys; from mien_train.cli import main; sys.exit(main(['data', 'audit', 'x.csv']))"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "is not installed; pip install 'mien[train]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    log = tmp_path / "r.db"
    call("run", "demo", "--max-frames", 5, "--log", log)
    result = subprocess.run(  # noqa: S602
        f"{sys.executable} -m mien_edge logs --log {log} | true", shell=True, capture_output=True
    )
    assert result.stderr == b""


@pytest.mark.slow
def test_bench_measures_in_the_environment_that_a_unit_gives(tmp_path):
    file = tmp_path / "mien.service"
    file.write_text("[Service]\nEnvironment=A=0\nEnvironment=\nEnvironment=B=1 'C=2 3'\n")
    measured = json.loads(call("bench", "--frames", 2, "--json", "--unit", file).stdout)
    variables = {"B": "1", "C": "2 3"}
    assert measured["environment"] == {"unit": str(file), "variables": variables}


def test_the_variables_that_bench_measures_with_are_those_of_the_unit_that_ships():
    assert unit.unit_variables(str(ROOT / "systemd/mien.service")) == unit.SERVICE_VARIABLES


def test_the_environment_of_a_unit_that_is_not_there_is_refused():
    result = call("bench", "--unit", "mien-none.service", check=False)
    assert result.returncode == 1
    assert "mien-none.service" in result.stderr
    assert "name a unit's file" in result.stderr


def test_check_and_bench_print_json(bundle, tmp_path):
    checked = json.loads(call("check", "--json").stdout)
    assert checked["model"] == bundle.card.id
    assert checked["difference_steps"] <= checked["allowed_steps"]
    result = call("bench", "--frames", 10, "--json")
    measured = json.loads(result.stdout)
    shares = measured["cpu_share"]
    assert set(shares) == {"one face", "no face", "idle"}
    assert min(shares.values()) > 0
    faces = {name: scene["faces"] for name, scene in measured["scenes"].items()}
    assert faces == {"moving face": 1, "still face": 1, "several faces": 4, "empty room": 0}
    assert measured["rss_megabytes"] > 10
    assert measured["start_up_cpu_seconds"] > 0
    assert measured["environment"]["variables"] == unit.service_variables()
    cores = {core.split()[0] for core in measured["estimates"]}
    assert cores == {"Cortex-A72", "Cortex-A76", "Cortex-A53"}
    assert {line["board"] for line in measured["line_estimates"]} == {"Pi 5", "Pi 4", "Zero 2 W"}
    layers = json.loads(call("bench", "--layers", "--json").stdout)
    assert layers[-1]["output"] == [7]
    former = tmp_path / "before.json"
    former.write_text(result.stdout)
    compared = call("bench", "--frames", 5, "--board", "zero2w", "--against", former).stdout
    assert "estimate for a Zero 2 W (proposed: detect.size = 256)" in compared
    assert "not the same conditions: detector_size: 320 before, 256 now" in compared
    assert re.search(r"moving face, total +[\d.]+ -> +[\d.]+ ms +x [\d.]+", compared)


@pytest.mark.parametrize("content", ["", "[]", '{"milliseconds": {}}'])
def test_bench_refuses_to_compare_with_what_is_no_result_of_it(tmp_path, content):
    former = tmp_path / "before.json"
    former.write_text(content)
    result = call("bench", "--frames", 1, "--board", "pi5", "--against", former, check=False)
    assert result.returncode == 1
    assert str(former) in result.stderr
    assert "bench --json" in result.stderr


ONE_THREAD = """
import os
from mien_edge.cli import main
main(["check"])
import numpy
numpy.ones((500, 500)) @ numpy.ones((500, 500))
print("threads:", len(os.listdir("/proc/self/task")))
"""


def test_numpy_computes_in_one_thread_for_its_others_would_spin_between_frames():
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    result = subprocess.run(
        [sys.executable, "-c", ONE_THREAD], capture_output=True, text=True, env=clean
    )
    assert result.stdout.splitlines()[-1] == "threads: 1", result.stderr


def test_models_are_installed_listed_and_chosen(bundle, tmp_path):
    env = {**os.environ, "MIEN_MODELS": str(tmp_path / "models")}
    assert "is not signed" in call("models", "install", bundle.folder, env=env).stderr
    (tmp_path / "mien.toml").write_text("[update]\nunsigned = true\n")
    lax = ("--settings", tmp_path / "mien.toml", "--runtime", tmp_path)
    assert bundle.card.id in call("models", "install", bundle.folder, *lax, env=env).stdout
    assert f"  {bundle.card.id}\n" in call("models", "list", env=env).stdout
    assert "at its next start" in call("models", "activate", bundle.card.id, *lax, env=env).stdout
    assert f"{bundle.card.id}  (asked for)" in call("models", "list", env=env).stdout
    assert json.loads(call("models", "list", "--json", env=env).stdout)["next"] == bundle.card.id
    assert call("models", "activate", "other-9", *lax, env=env).returncode == 1
    assert "there is none before it" in call("models", "rollback", *lax, env=env).stderr
    assert "the service does not run" in call("models", "shadow", *lax, env=env).stderr
    assert call("models", "activate", bundle.card.id, *lax, env=env).returncode == 0
    assert "in use" in call("models", "remove", bundle.card.id, *lax, env=env).stderr


FORBIDDEN = """
import sys
from mien_edge.cli import main
for arguments in {arguments}:
    try:
        main([*arguments, "--help"])
    except SystemExit:
        pass
loaded = {{"tensorflow", "keras", "matplotlib", "cv2", "ai_edge_litert"}} & set(sys.modules)
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""


def test_importing_and_helping_load_nothing_heavy():
    code = FORBIDDEN.format(arguments=list(command_lines(cli.parser())))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


WITHOUT_PICTURES = """
import sys
from mien_edge.cli import main
main({arguments})
assert "{module}" in sys.modules
rooms = ("mien_edge.chain", "mien_edge.model", "numpy", "cv2")
loaded = sorted(name for name in sys.modules if name.startswith(rooms))
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("publish", "mien_edge.publish.publisher"),
        ("view", "mien_edge.view.server"),
        ("logs", "mien_edge.log.show"),
        ("status", "mien_edge.status.summary"),
        ("settings", "mien_edge.settings"),
    ],
)
def test_a_process_that_tells_others_has_not_even_the_code_for_pictures(command, module, tmp_path):
    (tmp_path / "mien.toml").write_text('[view]\nhost = "192.0.2.1"\n')
    arguments = [command, "--settings", str(tmp_path / "mien.toml")]
    if command != "settings":
        arguments += ["--log", str(tmp_path / "r.db")]
    if command == "publish":
        arguments += ["--state", str(tmp_path)]
    code = WITHOUT_PICTURES.format(arguments=arguments, module=module)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_list_of_commands_imports_none_of_them():
    code = "import sys; from mien_edge.cli import parser; parser().format_help(); "
    code += "print([name for name in sys.modules if name.startswith('mien_edge.commands.')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "['mien_edge.commands.common']"


HELP = """
import sys
from mien_edge.cli import main
try:
    main(["--help"])
except SystemExit:
    loaded = {"numpy", "mien_edge.settings", "mien_edge.export.textfile"} & set(sys.modules)
    sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


def test_the_list_of_commands_is_printed_without_what_the_commands_need():
    result = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


PHOTOGRAPH = """
import sys
from mien_edge.cli import main
main(["run", sys.argv[1], "--quiet"])
needless = ("urllib.request", "http.client", "ssl", "mien_edge.log.writer", "mien_edge.chain.annotate")
loaded = sorted(set(needless) & set(sys.modules))
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""


def test_a_photograph_is_read_without_what_charts_and_network_cameras_need():
    command = [sys.executable, "-c", PHOTOGRAPH, str(sources.astronaut())]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_run_loads_no_tensorflow():
    code = (
        "import sys; from mien_edge.cli import main; main(['run', 'demo', '--max-frames', '2']); "
    )
    code += "sys.exit(bool({'tensorflow', 'keras', 'matplotlib', 'scipy', 'skimage'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


UNDER_FILTER = """
import ctypes, os, struct, sys
# What mien.service forbids must fail, not kill: here mbind (237 on x86-64), which OpenBLAS calls.
code = b"".join(struct.pack("HBBI", *each) for each in [
    (0x20, 0, 0, 0), (0x15, 0, 1, 237), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)])
buffer = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
from mien_edge.cli import main
sys.exit(main(["run", "demo", "--max-frames", "2"]))
"""


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the filter names a system call by its x86-64 number"
)
def test_a_run_works_where_the_units_filter_refuses_mbind():
    result = subprocess.run([sys.executable, "-c", UNDER_FILTER], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    unit = (ROOT / "systemd" / "mien.service").read_text()
    assert "SystemCallErrorNumber=EPERM" in unit


def test_every_command_is_in_the_rooms_readme():
    text = (ROOT / "edge" / "README.md").read_text()
    for words in command_lines(cli.parser()):
        if words:
            assert f"mien-edge {' '.join(words)}" in text, words
