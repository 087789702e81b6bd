"""What doctor finds about the service's access to a camera, from the files of a device."""

import pytest
from mien_edge.commands import doctor
from mien_edge.settings import (
    DetectSettings,
    GpioSettings,
    PublishSettings,
    Settings,
    SourceSettings,
    UseSettings,
)

UNIT = "etc/systemd/system/mien.service"
RESTRICTED = "[Service]\nPrivateNetwork=yes\nRestrictNamespaces=yes\n"
NODES = ("dev/dma_heap/linux,cma", "dev/media0", "dev/video0")


def device(root, mode=0o660, members="mien", **files):
    """A tree with device nodes of that mode; their group is video, with those members."""
    for name in NODES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(mode)
    gid = (root / NODES[0]).stat().st_gid
    texts = {
        UNIT: RESTRICTED,
        "etc/passwd": "mien:x:64999:64999::/:/bin/false",
        "etc/group": f"video:x:{gid}:{members}\nmien:x:64999:",
        **files,
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def examined(check, root, uri="picamera", **settings):
    settings = Settings(source=SourceSettings(uri=uri), **settings)
    return list(check(doctor.Device(settings, root)))


def test_nodes_that_the_services_user_may_open_are_fine(tmp_path):
    (finding,) = examined(doctor._access, device(tmp_path))
    assert (finding.severity, finding.text) == ("ok", "mien may open what the source needs")


def test_each_kind_of_node_that_is_closed_is_named_with_group_mode_and_a_udev_rule(tmp_path):
    findings = examined(doctor._access, device(tmp_path, mode=0o600))
    names = ["/dev/dma_heap/linux,cma", "/dev/media0", "/dev/video0"]
    rules = ["dma_heap", "media", "video4linux"]
    for finding, name, subsystem in zip(findings, names, rules, strict=True):
        assert finding.severity == "error"
        assert finding.text == f"{name}: mien may not open it (group video, mode 0600)"
        assert f'SUBSYSTEM=="{subsystem}", GROUP="video", MODE="0660"' in finding.fix


def test_a_group_that_the_services_user_lacks_is_named_with_usermod(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.Node, "is_open_to_group", True)  # as root, the tests' group is 0
    findings = examined(doctor._access, device(tmp_path, members="pi"))
    assert len(findings) == 3
    assert all("sudo usermod -aG video mien" in finding.fix for finding in findings)


def test_a_camera_that_is_unplugged_and_lines_of_nis_are_no_traceback(tmp_path):
    root = device(
        tmp_path,
        **{
            "etc/passwd": "mien:x:64999:64999::/:/bin/false\n+::::::",
            "etc/group": f"video:x:{tmp_path.stat().st_gid}:mien\n+:::",
        },
    )
    (root / "dev/video1").symlink_to("nowhere")
    for uri in ("picamera", "v4l2:1", "v4l2:/dev/video[1", "v4l2:"):
        (finding,) = examined(doctor._access, root, uri=uri)
        assert finding.severity == "ok"


def test_a_group_that_the_unit_or_its_drop_in_adds_counts(tmp_path):
    drop_in = {f"{UNIT}.d/x.conf": "[Service]\nSupplementaryGroups=other video"}
    (finding,) = examined(doctor._access, device(tmp_path, members="pi", **drop_in))
    assert finding.severity == "ok"


def test_one_heap_that_is_open_is_enough_and_none_at_all_is_an_error(tmp_path):
    root = device(tmp_path)
    (root / "dev/dma_heap/system").touch(0o600)
    (root / "dev/dma_heap/system").chmod(0o600)
    assert examined(doctor._access, root)[0].severity == "ok"
    for path in (root / "dev/dma_heap").iterdir():
        path.unlink()
    (finding,) = examined(doctor._access, root)
    assert "there is no /dev/dma_heap/*" in finding.text


def test_a_usb_camera_needs_its_own_node_alone(tmp_path):
    root = device(tmp_path)
    (root / "dev/media0").chmod(0o600)
    assert examined(doctor._access, root, uri="v4l2:0")[0].severity == "ok"
    (root / "dev/video0").chmod(0o600)
    assert "/dev/video0" in examined(doctor._access, root, uri="v4l2:0")[0].text


def test_pins_need_the_drop_in_and_the_nodes(tmp_path):
    root = device(tmp_path)
    gpio = GpioSettings(led=17)
    (finding,) = examined(doctor._access, root, gpio=gpio)
    assert "mien-gpio.conf" in finding.fix
    device(tmp_path, **{f"{UNIT}.d/gpio.conf": "[Service]\nDeviceAllow=char-gpiochip rw"})
    (root / "dev/gpiochip0").touch()
    (root / "dev/gpiochip0").chmod(0o600)
    (finding,) = examined(doctor._access, root, gpio=gpio)
    assert finding.text.startswith("/dev/gpiochip0: mien may not open it")
    assert 'SUBSYSTEM=="gpio", GROUP="gpio"' in finding.fix


def test_without_the_services_user_nothing_is_said_of_nodes(tmp_path):
    (finding,) = examined(doctor._access, device(tmp_path, **{"etc/passwd": "pi:x:1000:1000::/:"}))
    assert (finding.subject, finding.severity) == ("user", "note")


@pytest.mark.parametrize(
    ("drop_in", "severity"),
    [
        ("", "error"),
        ("RestrictNamespaces=user net", "note"),
        ("RestrictNamespaces=no", "note"),
        ("RestrictNamespaces=net", "error"),
    ],
)
def test_an_unsigned_ipa_module_is_named_with_what_the_unit_does_to_it(
    tmp_path, monkeypatch, drop_in, severity
):
    monkeypatch.setattr(doctor, "_run", lambda *_: None)
    folder = "usr/lib/aarch64-linux-gnu/libcamera/ipa"
    files = {
        f"{folder}/ipa_rpi_pisp.so": "",
        f"{folder}/ipa_rpi_vc4.so": "",
        f"{folder}/ipa_rpi_vc4.so.sign": "",
        f"{folder}/ipa_ipu3.so": "",
        f"{UNIT}.d/x.conf": f"[Service]\n{drop_in}",
    }
    findings = examined(doctor._camera, device(tmp_path, **files))
    (finding,) = [finding for finding in findings if finding.subject == "libcamera"]
    assert finding.severity == severity
    assert finding.text.startswith(f"/{folder}/ipa_rpi_pisp.so has no valid signature")
    if severity == "error":
        assert "RestrictNamespaces= of mien.service forbids that" in finding.text
        assert "libcamera-ipa" in finding.fix
        assert "RestrictNamespaces=user net" in finding.fix


def test_a_module_whose_signature_libcamera_refuses_is_named(tmp_path, monkeypatch):
    class Answer:
        returncode = 0
        stdout = "/x/picamera2/__init__.py 1.26.4\n"
        stderr = (
            "[0:01] DEBUG IPAManager ipa_manager.cpp:316 IPA module /x/ipa_rpi_vc4.so signature is "
            "not valid\n[0:01] DEBUG IPAManager IPA module /x/ipa_b.so signature is valid\n"
        )

    monkeypatch.setattr(doctor, "_run", lambda *_: Answer())
    findings = examined(doctor._camera, device(tmp_path))
    (finding,) = [finding for finding in findings if finding.subject == "libcamera"]
    assert finding.severity == "error"
    assert finding.text.startswith("/x/ipa_rpi_vc4.so has no valid signature")


@pytest.mark.parametrize(
    ("files", "severity"),
    [
        ({}, "error"),
        ({f"{UNIT}.d/net.conf": "[Service]\nPrivateNetwork=no"}, "note"),
        ({UNIT: "[Service]\n"}, "note"),
        ({UNIT: "[Service]\nRestrictAddressFamilies=AF_UNIX AF_NETLINK"}, "error"),
        ({UNIT: "[Service]\nRestrictAddressFamilies=none"}, "error"),
        ({UNIT: "[Service]\nRestrictAddressFamilies=~AF_INET AF_INET6"}, "error"),
        ({UNIT: "[Service]\nRestrictAddressFamilies=AF_UNIX AF_INET"}, "note"),
        (
            {
                UNIT: "[Service]\nRestrictAddressFamilies=AF_UNIX",
                f"{UNIT}.d/net.conf": "[Service]\nRestrictAddressFamilies=AF_INET",
            },
            "note",
        ),
    ],
)
def test_a_network_address_is_an_error_where_the_unit_has_no_network(tmp_path, files, severity):
    uri = "rtsp://me:geheim@192.0.2.7/x?token=geheim"
    (finding,) = examined(doctor._camera, device(tmp_path, **files), uri=uri)
    assert finding.severity == severity
    assert "rtsp://192.0.2.7/x?token=***" in finding.text
    assert "geheim" not in finding.text + finding.fix
    assert bool(finding.fix) == (severity == "error")


def test_settings_with_credentials_that_everybody_can_read_are_a_warning(tmp_path):
    path = tmp_path / "mien.toml"
    path.touch()
    path.chmod(0o644)
    settings = Settings(source=SourceSettings(uri="rtsp://me:geheim@192.0.2.7/x"))
    (finding,) = doctor._secrets(doctor.Device(settings, tmp_path, path))
    assert (finding.subject, finding.severity) == ("secrets", "warning")
    assert "sudo chmod 640" in finding.fix


@pytest.mark.parametrize(
    ("settings", "severity", "text"),
    [
        (Settings(), "note", "do not say"),
        (Settings(publish=PublishSettings(aggregate=True)), "warning", "single readings are kept"),
        (Settings(use=UseSettings("research")), "ok", "research"),
        (Settings(use=UseSettings("public")), "ok", "minutes with 5 faces"),
    ],
)
def test_what_the_device_is_for_is_a_finding(tmp_path, settings, severity, text):
    findings = doctor.examine(settings, tmp_path)
    (finding,) = [finding for finding in findings if finding.subject == "purpose"]
    assert finding.severity == severity
    assert text in finding.text


def test_how_far_from_the_camera_faces_are_found_and_read_is_said_in_metres(tmp_path):
    (finding,) = examined(doctor._reach, tmp_path)
    assert finding.severity == "ok"
    assert "found up to 1.8 m away" in finding.text
    assert "label up to 2.7 m (640 pixels, 66 degrees, detector 320)" in finding.text


def test_a_distance_that_the_frames_are_too_small_for_comes_with_the_width_that_it_needs(tmp_path):
    detect = DetectSettings(max_distance=4.0)
    (finding,) = examined(doctor._reach, tmp_path, detect=detect)
    assert finding.severity == "warning"
    assert finding.text.startswith("detect.max_distance is 4 m, but adults' faces are found")
    assert "source.height 945" in finding.fix


def on_board(root, name):
    path = root / "proc/device-tree/model"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name}\0")
    return root


def test_a_board_that_does_what_the_settings_ask_for_is_fine(tmp_path):
    (finding,) = examined(doctor._speed, on_board(tmp_path, "Raspberry Pi 5 Model B Rev 1.0"))
    assert finding.severity == "ok"
    assert finding.text.startswith("Pi 5: one face takes about ")


def test_a_board_that_is_too_slow_for_the_settings_gets_others(tmp_path):
    detect = DetectSettings(size=640, interval=0.0)
    root = on_board(tmp_path, "Raspberry Pi Zero 2 W Rev 1.0")
    (finding,) = examined(doctor._speed, root, detect=detect)
    assert finding.severity == "warning"
    assert "Zero 2 W: one face takes about" in finding.text
    assert "detect.size = 256" in finding.fix
    assert "detect.interval = 0.5" in finding.fix
    assert "bench --board zero2w" in finding.fix


def test_nothing_is_said_of_the_speed_of_a_machine_that_has_no_estimates(tmp_path):
    assert examined(doctor._speed, tmp_path) == []
