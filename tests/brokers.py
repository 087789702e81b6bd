"""A real mosquitto on loopback, and a subscriber that remembers what it received."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as paho
import pytest

START_SECONDS = 20
"""How long a broker may take to start or to end, and a subscriber to be accepted."""


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Broker:
    """A mosquitto that can be started and stopped, always on the same port; it remembers sessions on disk.

    folder: for its files. lines: of its configuration about access; none to let everybody in.
    """

    def __init__(self, folder, *lines):
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("mosquitto is not installed")
        self.folder = folder
        self.port = free_port()
        self.process = None
        folder.mkdir(exist_ok=True)
        configuration = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "user root",
            *(lines or ["allow_anonymous true"]),
        ]
        (folder / "mosquitto.conf").write_text("\n".join(configuration) + "\n")
        self.command = [program, "-c", folder / "mosquitto.conf"]

    def start(self):
        """Start it, and wait until it listens."""
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._listens():
                return self
            time.sleep(0.02)
        raise AssertionError((self.folder / "mosquitto.log").read_text())

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self):
        """Let it neither read nor answer; returns when that is so."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        """Send it a signal that ends it, and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.thaw()
            self.process.wait(START_SECONDS)
            self.process = None


class Received(NamedTuple):
    """A message that a subscriber received."""

    topic: str
    payload: str
    retained: bool


class Subscriber:
    """A client whose session the broker keeps, so that it misses nothing; `messages` is what it received.

    topic: what it subscribes to, by default everything.
    """

    def __init__(self, broker, topic="#"):
        self.messages = []
        self.subscribed = threading.Event()
        self._topic = topic
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"subscriber-{id(self)}",
            clean_session=False,
            protocol=paho.MQTTv311,
        )
        self.client.reconnect_delay_set(0.05, 0.1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self.subscribed.wait(START_SECONDS)

    def _on_connect(self, client, *_):
        client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, *_):
        self.subscribed.set()

    def _on_message(self, client, userdata, message):
        self.messages.append(Received(message.topic, message.payload.decode(), message.retain))

    def payloads(self, end):
        """Payloads of the topics that end so, in the order received."""
        return [message.payload for message in list(self.messages) if message.topic.endswith(end)]

    def wait_for(self, count, end="reading", seconds=60.0):
        """Wait until so many messages of a topic have come; the limit only ends a test that would wait for ever."""
        deadline = time.monotonic() + seconds
        while len(self.payloads(end)) < count:
            assert time.monotonic() < deadline, self.payloads(end)
            time.sleep(0.02)

    def close(self):
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()
