"""A real mosquitto on loopback, and a client that remembers what it was told."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Broker:
    """Started and stopped at will, on one port; it remembers sessions that a client asked it to keep."""

    def __init__(self, folder, *lines):
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("mosquitto is not installed")
        self.folder, self.port = folder, free_port()
        folder.mkdir(exist_ok=True)
        text = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/"]
        text += ["max_queued_messages 0", "max_inflight_messages 0", "user root", *(lines or ["allow_anonymous true"])]
        (folder / "mosquitto.conf").write_text("\n".join(text) + "\n")
        self.command = [program, "-c", folder / "mosquitto.conf"]
        self.process = None

    def start(self):
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise AssertionError((self.folder / "mosquitto.log").read_text())

    def freeze(self):
        """It neither reads nor answers; returns when that is so."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self):
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(number)
            self.thaw()
            self.process.wait(20)
            self.process = None


class Listener:
    """A subscriber whose session the broker keeps, so that it misses nothing; `got` is (topic, payload, retained)."""

    def __init__(self, broker, topic="#", **options):
        self.got, self.ready = [], threading.Event()
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"listener-{id(self)}",
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        self.client.reconnect_delay_set(0.05, 0.1)
        for call, arguments in options.items():
            getattr(self.client, call)(**arguments)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda _, __, m: self.got.append((m.topic, m.payload.decode(), m.retain))
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def of(self, end):
        """Payloads of the topics that end so."""
        return [payload for topic, payload, _ in list(self.got) if topic.endswith(end)]

    def heard(self, count, end="reading", seconds=60.0):
        """Wait until so many have come."""
        deadline = time.monotonic() + seconds
        while len(self.of(end)) < count:
            assert time.monotonic() < deadline, self.of(end)
            time.sleep(0.02)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
