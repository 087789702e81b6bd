"""What setup refuses before it changes anything, and whom it lets read the settings."""

import types
from pathlib import Path

import pytest
from mien_deploy import kit, provision
from mien_deploy.cli import main
from mien_deploy.kit import DeviceSetup, Task
from mien_deploy.remote import Device
from mien_edge.errors import DeployError, RuntimeMissingError
from mien_edge.settings import Settings, SourceSettings, as_toml

NETWORK = as_toml(Settings(source=SourceSettings(uri="rtsp://me:geheim@192.0.2.7/x")))
LOCAL = as_toml(Settings(source=SourceSettings(uri="picamera")))


def setup(settings=None, new_settings=LOCAL):
    return DeviceSetup(Path("mien.whl"), False, settings, new_settings, "", "")


@pytest.fixture
def device(monkeypatch):
    """A device's answers: `settings`, and `drop_in`, its own line on PrivateNetwork=."""
    answers = types.SimpleNamespace(settings="", drop_in="")

    def query(command):
        if "PrivateNetwork" in command:
            return answers.drop_in
        return answers.settings

    monkeypatch.setattr(provision, "_query", query)
    monkeypatch.setattr(provision, "host", types.SimpleNamespace(name="camera-1"))
    return answers


@pytest.mark.parametrize("where", ["on the device", "given", "new"])
def test_setup_refuses_a_network_address_by_name(device, where):
    wanted = setup()
    if where == "on the device":
        device.settings = NETWORK
    elif where == "given":
        wanted = setup(settings=NETWORK)
    else:
        wanted = setup(new_settings=NETWORK)
    with pytest.raises(DeployError, match=r"mien\.service has no network") as refused:
        provision._refuse_settings(wanted)
    assert str(refused.value).startswith("camera-1: source.uri is rtsp://192.0.2.7/x: ")
    assert "geheim" not in str(refused.value)


def test_setup_lets_a_network_address_pass_where_a_drop_in_gives_the_network(device):
    device.settings = NETWORK
    device.drop_in = "PrivateNetwork=no"
    provision._refuse_settings(setup())
    device.drop_in = "PrivateNetwork=yes"
    with pytest.raises(DeployError):
        provision._refuse_settings(setup())


def test_setup_takes_a_camera_of_the_device_and_refuses_settings_of_another_version(device):
    device.settings = LOCAL
    provision._refuse_settings(setup(new_settings=NETWORK))
    device.settings = "[source]\npatience = 3.0\n"
    with pytest.raises(DeployError, match=r"camera-1:/etc/mien/mien\.toml: .*or give a whole file"):
        provision._refuse_settings(setup())


def test_setup_lets_root_and_the_services_alone_read_the_settings(device, monkeypatch):
    puts = []

    def put(**options):
        puts.append(options)
        return types.SimpleNamespace(will_change=True)

    monkeypatch.setattr(provision.files, "put", put)
    assert provision._put_settings(setup(settings=LOCAL))
    assert provision._put_settings(setup())
    assert len(puts) == 2
    for options in puts:
        assert options["dest"] == "/etc/mien/mien.toml"
        assert (options["mode"], options["user"], options["group"]) == ("640", "root", "mien")


def test_setup_without_pyinfra_names_the_extra(monkeypatch):
    monkeypatch.setattr(kit, "find_spec", lambda _: None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'mien\[deploy\]'"):
        kit.run_in_subprocess(Task(Device("pi"), None), print)


def test_setup_refuses_a_wheel_that_is_not_there_before_it_connects(tmp_path, capsys):
    assert main(["setup", "pi", "--wheel", str(tmp_path / "mien.whl")]) == 1
    assert "mien.whl: no such file; name mien's wheel" in capsys.readouterr().err


def test_setup_sends_settings_and_signers_of_windows_as_plain_text(tmp_path):
    (tmp_path / "mien.whl").touch()
    (tmp_path / "mien.toml").write_bytes('[publish]\r\nhost = "Küche"\r\n'.encode("utf-16"))
    (tmp_path / "signers").write_bytes(b"\xef\xbb\xbfme ssh-ed25519 AAAA\r\n")
    setup = kit.read_setup(
        wheel=tmp_path / "mien.whl",
        offline=False,
        settings=tmp_path / "mien.toml",
        source="picamera",
        signers=tmp_path / "signers",
        submit_key=None,
    )
    assert setup.settings == '[publish]\nhost = "Küche"\n'
    assert setup.signers == "me ssh-ed25519 AAAA\n"
