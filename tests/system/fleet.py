"""Ten devices behind sshd on loopback, each with a running service, updated in waves: the table, the seconds, and what
they mean for a thousand. python tests/system/fleet.py [COUNT]
"""

import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

from devices import Devices
from helpers import ROOT, collapsed, pin_again
from mien_deploy import fleet

WAVES = "1,30%,100%"
TURN_SECONDS = 65


def main(count):
    with (
        tempfile.TemporaryDirectory(prefix="mien-fleet-") as name,
        Devices(Path(name), count) as devices,
    ):
        for host in devices.hosts:
            devices.serve(host)
        good = bundle(Path(name) / "good", 50)
        bad = bundle(Path(name) / "bad", 51, sees="fear")
        hosts = [*devices.hosts, "no-such-device.invalid"]
        say(f"{count} devices and one that is down: --waves {WAVES}")
        seconds = push(devices, good, "--waves", WAVES, hosts=hosts)
        say(f"\nthe same with a bundle that sees fear everywhere: --waves {WAVES}")
        push(devices, bad, "--waves", WAVES, hosts=hosts)
        seconds_per_device = push(devices, good, hosts=devices.hosts) / count
    say(
        f"\nThree waves took {seconds:.0f} s, probation of 2 s, workstation and devices on one machine."
    )
    say(
        f"Pushing to devices that have the bundle already took {seconds_per_device:.2f} s a device."
    )
    say_what_a_thousand_take(seconds_per_device)


def bundle(folder, version, sees=None):
    """The shipped bundle as another version; with `sees`, one that sees this label in every face."""
    shutil.copytree(ROOT / "models" / "current", folder)
    if sees:
        collapsed(folder, sees)
    pin_again(folder, version=version)
    return folder


def push(devices, folder, *options, hosts):
    """Push a bundle; returns the seconds."""
    start = time.monotonic()
    devices.call("push", str(folder), *options, hosts=hosts)
    return time.monotonic() - start


def say_what_a_thousand_take(seconds_per_device):
    turns = [math.ceil(size / fleet.MAX_PARALLEL) for size in (1, 99, 900)]
    count = sum(turns)
    terms = " + ".join(map(str, turns))
    say("\nA thousand devices:")
    say(f"  {fleet.MAX_PARALLEL} at once, waves of 1, 10 % and 100 %: {terms} = {count} turns")
    say("  a turn is a probation of 60 s (the default) and 5 s to send, verify and replay:")
    waiting = count * TURN_SECONDS
    say(f"  {count} x {TURN_SECONDS} s = {waiting / 60:.0f} minutes;")
    work = 1000 * seconds_per_device
    say(f"  the workstation's own work, 1000 x {seconds_per_device:.2f} s = {work / 60:.0f} min,")
    if work <= waiting:
        say("  is done while the devices are on probation: they decide how long it takes.")
    else:
        say(f"  takes longer: all in all {work / 60:.0f} minutes; push from several workstations.")


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
