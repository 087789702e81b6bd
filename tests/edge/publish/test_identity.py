"""Which machine a device is, and what it was called before."""

import json

import pytest
from mien_edge.errors import PublishError
from mien_edge.publish import identity
from mien_edge.publish.identity import Identity, IdentityFile
from mien_edge.settings import PublishSettings


def machine_of(folder, machine_id="a" * 32, serial=None, address=None):
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/machine-id").write_text(f"{machine_id}\n")
    if serial:
        (folder / "sys/firmware/devicetree/base").mkdir(parents=True)
        (folder / "sys/firmware/devicetree/base/serial-number").write_bytes(serial + b"\0")
    if address:
        (folder / "sys/class/net/eth0/device").mkdir(parents=True)
        (folder / "sys/class/net/eth0/address").write_text(f"{address}\n")
    return folder


def test_a_copied_card_is_another_machine_with_the_same_client_id(tmp_path):
    first = machine_of(tmp_path / "a", serial=b"100000001")
    second = machine_of(tmp_path / "b", serial=b"100000002")
    third = machine_of(tmp_path / "c", address="b8:27:eb:00:00:01")
    fourth = machine_of(tmp_path / "d", address="b8:27:eb:00:00:02")
    roots = (first, second, third, fourth)
    assert len({identity.machine(root) for root in roots}) == 4
    assert {identity.client_id("pi", root) for root in roots} == {"mien-pi-aaaaaaaa"}
    assert identity.machine(first) == identity.machine(first)


def test_a_machine_is_told_without_its_id_and_serial_number(tmp_path):
    machine = identity.machine(machine_of(tmp_path, "0123456789abcdef" * 2, b"100000001"))
    assert len(machine) == 8
    assert machine not in "0123456789abcdef0123456789abcdef100000001"


def test_a_machine_that_says_nothing_of_itself_has_an_id(tmp_path):
    assert len(identity.machine(tmp_path)) == 8
    assert identity.client_id("pi", tmp_path) == "mien-pi-0"


def test_a_host_name_that_cannot_be_a_topic_is_refused(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "a#b")
    with pytest.raises(PublishError, match="host name"):
        Identity.of(PublishSettings(host="h"))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", pytest.param("[" * 100_000, id="deep"), '[{"topic": 1}]', "{}", "\xff"],
)
def test_a_damaged_identity_file_is_written_anew(tmp_path, content):
    path = tmp_path / "identity.json"
    path.write_bytes(content.encode("latin-1"))
    current = Identity("mien/pi", "pi")
    assert IdentityFile(path, current).retired == []
    assert json.loads(path.read_text())[0]["device"] == "pi"


def test_a_hundred_renamings_are_not_all_remembered(tmp_path):
    for number in range(100):
        IdentityFile(tmp_path / "identity.json", Identity(f"mien/{number}", str(number)))
    again = IdentityFile(tmp_path / "identity.json", Identity("mien/x", "x"))
    assert len(again.retired) == 20
    assert again.retired[-1].device == "99"


def test_a_name_that_came_back_is_not_retired(tmp_path):
    path = tmp_path / "identity.json"
    for name in ("a", "b", "a"):
        last = IdentityFile(path, Identity(f"mien/{name}", name))
    assert [retired.device for retired in last.retired] == ["b"]
