"""Pushing bundles to a real sshd on loopback that plays the devices."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from devices import Devices, needs_sshd
from helpers import ROOT, collapsed, pin_again
from mien_deploy import cli, fleet, process, remote
from mien_deploy.fleet import Outcome, OutcomeKind, Result
from mien_deploy.kit import DeviceSetup, Task
from mien_edge import contract
from mien_edge.errors import DeployError
from mien_edge.update import signing
from mien_edge.update.archive import pack
from stores import store


@pytest.fixture
def devices(tmp_path):
    needs_sshd()
    with Devices(tmp_path, 3) as three_devices:
        yield three_devices


def version(bundle, folder, number, spoil=None):
    """The shipped bundle as another version, in a folder."""
    shutil.copytree(bundle.folder, folder)
    if spoil:
        spoil(folder)
    pin_again(folder, version=number)
    return str(folder)


def test_a_pushed_bundle_is_verified_replayed_and_asked_for(devices, bundle, capsys):
    assert devices.call("push", str(bundle.folder), "--timeout", "1") == 3
    out = capsys.readouterr().out
    assert f"{bundle.card.id} is installed" in out
    assert "1  not judged" in out
    assert "the service takes it at its next start" in out
    assert store(devices.models()).state().pending == bundle.card.id
    for name in ("card.json", *bundle.card.files):
        assert (devices.models() / bundle.card.id / name).read_bytes() == (
            bundle.folder / name
        ).read_bytes()


def test_a_running_service_takes_it_and_commits_and_again_changes_nothing(
    devices, bundle, tmp_path, capsys
):
    devices.serve()
    newer = version(bundle, tmp_path / "newer", 50)
    assert devices.call("push", newer) == 0
    assert f"{bundle.card.name}-50 is committed: " in capsys.readouterr().out
    assert devices.call("push", newer) == 0
    assert f"{bundle.card.name}-50 is current already" in capsys.readouterr().out
    assert devices.call("status") == 0
    assert f"model        {bundle.card.name}-50" in capsys.readouterr().out


def test_who_pushes_other_labels_than_the_devices_sees_them_and_what_changes(
    devices, bundle, three_labels, capsys
):
    devices.serve()
    assert devices.call("push", str(three_labels.folder)) == 0
    printed = capsys.readouterr()
    assert "three-1: labels happiness, sadness, other" in printed.err
    change = "its labels are not those of .*: all new: happiness, sadness, other; what names labels"
    assert re.search(change, printed.out)
    assert "three-1 is committed: " in printed.out


def test_a_wave_that_fails_is_the_last_one(devices, bundle, tmp_path, capsys):
    devices.serve()
    assert devices.call("push", version(bundle, tmp_path / "good", 50)) == 0
    bad = version(bundle, tmp_path / "bad", 51, lambda folder: collapsed(folder, "fear"))
    code = devices.call("push", bad, "--waves", "1,100%", "--json", hosts=devices.hosts)
    outcomes = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 1
    assert [outcome["kind"] for outcome in outcomes] == ["failed", "not begun", "not begun"]
    assert "was rolled back: 100 % of all faces are 'fear' to it" in outcomes[0]["text"]
    assert store(devices.models()).state().current == f"{bundle.card.name}-50"


def test_a_bundle_altered_on_the_way_is_refused_by_the_device(devices, bundle):
    content = bytearray(pack(bundle.folder))
    content[len(content) // 2] ^= 1
    with pytest.raises(DeployError, match=r"127.0.0.1: .*sha256"):
        devices.device().run(["receive"], bytes(content))
    assert store(devices.models()).state().installed == ()


def test_the_same_bundle_packs_to_the_same_bytes(bundle):
    assert pack(bundle.folder) == pack(bundle.folder)


def test_a_wrong_key_and_an_unknown_host_are_refused_without_a_question(devices, capsys):
    assert devices.call("check", key="other") == 1
    assert "Permission denied" in capsys.readouterr().err
    devices.pin("other")
    assert devices.call("check") == 1
    assert "ost key verification failed" in capsys.readouterr().err


def test_one_device_that_is_down_does_not_stop_the_others(devices, bundle, capsys):
    hosts = ["127.0.0.1", "no-such-device.invalid", "127.0.0.3"]
    assert devices.call("push", str(bundle.folder), "--timeout", "1", hosts=hosts) == 1
    out = capsys.readouterr().out
    assert "no-such-device.invalid     1  unreachable" in out
    for host in ("127.0.0.1", "127.0.0.3"):
        assert store(devices.models(host)).state().pending == bundle.card.id


def test_a_dry_run_prints_exactly_what_a_push_runs(devices, bundle, capsys, monkeypatch):
    assert devices.call("push", str(bundle.folder), "--dry-run", "--timeout", "1") == 0
    printed = capsys.readouterr().out.splitlines()[1]
    commands = []
    popen = process.subprocess.Popen

    def recording_popen(command, **options):
        commands.append(command)
        return popen(command, **options)

    monkeypatch.setattr(process.subprocess, "Popen", recording_popen)
    assert devices.call("push", str(bundle.folder), "--timeout", "1") == 3
    assert printed == f"{cli.shlex.join(commands[0])} < {bundle.card.id}.tar"
    assert len(commands) == 1


def test_check_models_rollback_and_logs_work_from_afar(devices, bundle, capsys):
    assert devices.call("push", str(bundle.folder), "--timeout", "1") == 3
    for command in ("check", "models"):
        assert devices.call(command) == 0
    out = capsys.readouterr().out
    assert "127.0.0.1  difference_steps" in out
    assert f"127.0.0.1    {bundle.card.id}  (asked for)" in out
    assert devices.call("rollback") == 1
    assert "there is none before it" in capsys.readouterr().err
    assert devices.call("logs") == 1
    assert "no log here" in capsys.readouterr().err


def test_the_logs_of_several_devices_follow_in_one_stream(devices):
    hosts = devices.hosts[:2]
    for host in hosts:
        devices.serve(host)
    words = ["logs", "--follow", "--since", "1h", *hosts, *devices.arguments()]
    command = [sys.executable, "-P", "-m", "mien_deploy", *words]
    missing = set(hosts)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            missing.discard(line.split()[0])
            if not missing:
                break
        process.send_signal(signal.SIGINT)
    assert not missing


def test_lines_are_whole_and_each_device_has_a_colour():
    lines = []
    printer = fleet.Printer(["a", "longer"], lines.append, coloured=True)
    printer("a", "one")
    printer("longer", "two")
    assert lines == ["\033[36ma     \033[0m  one\n", "\033[33mlonger\033[0m  two\n"]


def test_words_are_quoted_for_the_devices_shell():
    command = remote.Device("pi").command(["models", "activate", "a; reboot"])
    assert command[-1] == remote.marked("mien-edge models activate 'a; reboot'")
    assert command[-2] == "pi"


def test_a_bundle_is_signed_with_an_ordinary_key_and_the_device_takes_it(
    devices, bundle, tmp_path, capsys
):
    newer = tmp_path / "newer"
    version(bundle, newer, 60)
    assert (
        cli.main(
            ["sign", str(newer), "--key", str(devices.folder / "id"), "--principal", "me@here"]
        )
        == 0
    )
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith('me@here namespaces="mien-bundle" ssh-ed25519 ')
    (devices.folder / "allowed").write_text(line + "\n")
    trust = f'[update]\nsigners = "{devices.folder}/allowed"\nrevoked = "{devices.folder}/none"\n'
    (devices.folder / "mien.toml").write_text(trust)
    assert devices.call("push", str(bundle.folder)) == 1
    assert "is not signed" in capsys.readouterr().out
    assert devices.call("push", str(newer), "--timeout", "1") == 3
    assert (devices.models() / f"{bundle.card.name}-60" / signing.SIGNATURE).is_file()


def test_a_signer_with_a_space_is_refused_before_anything_is_signed(copy, tmp_path, capsys):
    before = (copy / signing.SIGNATURE).exists()
    assert cli.main(["sign", str(copy), "--key", "no-key", "--principal", "Alice Smith"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "--principal 'Alice Smith' cannot be a signer's name: write 1 to 128 of" in output.err
    assert (copy / signing.SIGNATURE).exists() == before


# --- fleets ------------------------------------------------------------------------------------------------------


def test_an_inventory_names_hosts_by_groups(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text('lobby = ["pi@a", "pi@b"]\nupstairs = ["pi@c", "lobby"]\n')
    assert fleet.hosts(["upstairs", "pi@d"], path) == ["pi@c", "pi@a", "pi@b", "pi@d"]
    assert fleet.hosts(["all"], path) == ["pi@a", "pi@b", "pi@c"]
    assert fleet.hosts(["x"], None) == ["x"]
    assert fleet.hosts(["camera.local", "fe80::1"], path) == ["camera.local", "fe80::1"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("loby", "did you mean 'lobby'"),
        ("Lobby", "did you mean 'lobby'"),
        ("lobby ", "did you mean 'lobby'"),
        ("camera-1", "did you mean 'pi@camera-1'"),
        ("al", "did you mean 'all'"),
        ("printer", "write it as user@printer"),
    ],
)
def test_a_name_that_is_neither_group_nor_host_of_the_inventory_is_refused(tmp_path, name, hint):
    path = tmp_path / "fleet.toml"
    path.write_text('lobby = ["pi@camera-1", "pi@camera-2"]\n')
    with pytest.raises(DeployError, match=f"fleet.toml: '{name}' is neither .*{hint}"):
        fleet.hosts(["lobby", name], path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("lobby = 3", "must be a list of names"),
        ("lobby = [", "cannot be read"),
        ('lobby = ["lobby"]', "contains itself"),
        ('lobby = ["-oProxyCommand=reboot"]', "not the name of a host"),
        ('lobby = ["pi@-oProxyCommand=reboot"]', "not the name of a host"),
        (r'lobby = ["\u001b]0;x"]', "not the name of a host"),
        ('lobby = ["two words"]', "not the name of a host"),
        ('lobby = ["x"]\nupstairs = ["loby"]', "'loby' in 'upstairs' .*did you mean 'lobby'"),
        ("lobby = " + "[" * 20_000, "cannot be read"),
        ("\n".join(f'g{n} = ["g{n + 1}"]' for n in range(999)), "nested too deep"),
        ("", "no host there"),
    ],
)
def test_an_inventory_that_cannot_be_is_refused(tmp_path, content, reason):
    (tmp_path / "fleet.toml").write_text(content)
    with pytest.raises(DeployError, match=reason):
        fleet.hosts(["all"], tmp_path / "fleet.toml")


@pytest.mark.parametrize("name", ["kitchen-1", "kitchen2", "camera", "pi@kitchn"])
def test_a_host_that_is_called_like_its_group_is_none_that_is_misspelt(tmp_path, name):
    path = tmp_path / "fleet.toml"
    path.write_text(f'kitchen = ["{name}"]\n', encoding="utf-8-sig")
    assert fleet.hosts(["kitchen"], path) == [name]


def test_an_inventory_in_another_encoding_says_so(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text('lobby = ["x"]\n# Küche\n', encoding="latin-1")
    with pytest.raises(DeployError, match=r"fleet.toml: line 2 is not UTF-8; save it as UTF-8"):
        fleet.hosts(["all"], path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_inventory_of_windows_is_read(tmp_path, encoding):
    path = tmp_path / "fleet.toml"
    path.write_bytes('kitchen = ["kitchen-1"]\r\n\r\n'.encode(encoding))
    assert fleet.hosts(["kitchen"], path) == ["kitchen-1"]


def test_groups_that_share_groups_take_no_time(tmp_path):
    path = tmp_path / "fleet.toml"
    lines = [f'g{n} = ["g{n + 1}", "g{n + 1}", "g{n + 1}"]' for n in range(18)]
    path.write_text("\n".join([*lines, 'g18 = ["x"]']))
    assert fleet.hosts(["g0"], path) == ["x"]


@pytest.mark.parametrize(
    ("plan", "count", "reached"),
    [
        ("1,10%,100%", 30, [1, 3, 30]),
        ("100%", 7, [7]),
        ("1,10%,100%", 3, [1, 1, 3]),
        ("2,5", 5, [2, 5]),
    ],
)
def test_waves_reach_ever_more(plan, count, reached):
    assert fleet.waves(plan, count) == reached


@pytest.mark.parametrize(
    "plan", ["", "10%,1", "1,50%", "some", "1,,100%", "nan%", "-3,100%", "inf%"]
)
def test_a_plan_that_cannot_be_is_refused(plan):
    with pytest.raises(DeployError, match="--waves"):
        fleet.waves(plan, 10)


@pytest.mark.parametrize(
    ("bad", "kinds"),
    [
        ({}, ["done"] * 4),
        ({"a": "failed"}, ["failed", "not begun", "not begun", "not begun"]),
        ({"a": "not judged"}, ["not judged", "not begun", "not begun", "not begun"]),
        ({"a": "unreachable"}, ["unreachable", "not begun", "not begun", "not begun"]),
        ({"b": "unreachable"}, ["done", "unreachable", "done", "done"]),
        ({"c": "failed"}, ["done", "done", "failed", "not begun"]),
    ],
)
def test_a_roll_out_stops_after_a_wave_that_failed(bad, kinds):
    def work(device, progress):
        kind = bad.get(device.host, "done")
        if kind == "unreachable":
            raise remote.UnreachableError(f"{device.host}: down")
        if kind == "failed":
            raise DeployError(f"{device.host}: refused")
        return Result(OutcomeKind(kind), "text")

    devices = [remote.Device(name) for name in "abcd"]
    outcomes = fleet.roll_out(devices, work, "1,3,100%", lambda *_: None)
    assert [outcome.kind for outcome in outcomes] == kinds
    assert outcomes[0].text in ("text", "refused", "down")


def test_the_table_names_every_device():
    done = Outcome("pi@a", 1, OutcomeKind.DONE, "it runs", 1.2)
    not_begun = Outcome("b", 0, OutcomeKind.NOT_BEGUN, "why")
    text = fleet.table([done, not_begun])
    assert "pi@a     1  done              1.2  it runs" in text
    assert "b        -  not begun         0.0  why" in text
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        (["done", "done"], 0),
        (["done", "not judged"], 3),
        (["not judged", "failed"], 1),
        (["done", "unreachable"], 1),
        (["not judged", "not begun"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_outcome(kinds, code):
    outcomes = [Outcome("pi", 1, OutcomeKind(kind), "") for kind in kinds]
    assert fleet.exit_code(outcomes) == code


def test_a_task_comes_through_json_as_it_was():
    device = remote.Device("pi@a", "mien-edge", ("-o", "Port=22"))
    setup = DeviceSetup(Path("mien.whl"), True, None, "[source]\n", "signers", "key")
    for task in (Task(device, setup, dry_run=True), Task(device, None, purge=True, sudo=False)):
        assert Task.from_json(task.to_json()) == task


def test_only_setup_and_remove_need_pyinfra_and_packaging():
    code = "import sys; from mien_deploy import cli; print({'pyinfra', 'packaging'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_every_command_is_in_the_rooms_readme():
    text = (ROOT / "deploy" / "README.md").read_text()
    (actions,) = [a for a in cli.parser()._actions if isinstance(a, cli.argparse._SubParsersAction)]
    for name in actions.choices:
        assert f"mien-deploy {name}" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["sign", "folder", "--who", "me@here"], "--who is now --principal; rename it"),
        (["push", "folder", "pi", "--wait", "3"], "--wait is now --timeout; rename it"),
    ],
)
def test_an_option_of_an_earlier_version_is_a_usage_error_that_names_the_new_one(
    arguments, line, capsys
):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {line}")


def test_the_contract_of_a_card_is_its_manifest(bundle):
    """What is signed names version, contract and every file's size and digest."""
    card = contract.parse_card((bundle.folder / "card.json").read_text())
    files = {path.name for path in bundle.folder.iterdir()} - {"card.json", signing.SIGNATURE}
    assert set(card.files) == files
    assert card.contract in contract.READABLE_VERSIONS
    assert card.version == bundle.card.version
