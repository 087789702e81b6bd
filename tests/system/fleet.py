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


def main(count):
    with tempfile.TemporaryDirectory(prefix="mien-fleet-") as folder, Devices(Path(folder), count) as devices:
        for host in devices.hosts:
            devices.serve(host)
        good, bad = (Path(folder) / name for name in ("good", "bad"))
        for version, place in ((50, good), (51, bad)):
            shutil.copytree(ROOT / "models" / "current", place)
            if place == bad:
                collapsed(place, "fear")
            pin_again(place, version=version)
        hosts = [*devices.hosts, "no-such-device.invalid"]
        said(f"{count} devices and one that is down: --waves 1,30%,100%")
        began = time.monotonic()
        devices.call("push", str(good), "--waves", "1,30%,100%", hosts=hosts)
        seconds = time.monotonic() - began
        said("\nthe same with a bundle that sees fear everywhere: --waves 1,30%,100%")
        devices.call("push", str(bad), "--waves", "1,30%,100%", hosts=hosts)
        began = time.monotonic()
        devices.call("push", str(good), hosts=devices.hosts)
        each = (time.monotonic() - began) / count
    said(f"\nThree waves took {seconds:.0f} s, probation of 2 s, workstation and devices on one machine.")
    said(f"Pushing to devices that have the bundle already took {each:.2f} s a device.\n\nA thousand devices:")
    turns = [math.ceil(size / fleet.MAX_PARALLEL) for size in (1, 99, 900)]
    said(f"  {fleet.MAX_PARALLEL} at once, waves of 1, 10 % and 100 %: {' + '.join(map(str, turns))} = {sum(turns)} turns")
    said(f"  a turn is a probation of 60 s (the default) and 5 s to send, verify and replay: {sum(turns)} x 65 s = ")
    said(
        f"  {sum(turns) * 65 / 60:.0f} minutes; the work above, 1000 x {each:.2f} s = {1000 * each / 60:.0f} min, fits."
    )


def said(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
