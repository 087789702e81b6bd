"""A server that behaves as no honest MQTT broker does; it waits for what comes, never for time."""

import socket
import struct
import threading

ACCEPTED_5 = b"\x20\x03\x00\x00\x00"
"""CONNACK of MQTT 5: success, no properties."""

ACCEPTED_311 = b"\x20\x02\x00\x00"
"""CONNACK of MQTT 3.1.1: success."""


def publish_packet(topic, payload, properties=b"\x00"):
    """A PUBLISH with QoS 0; `properties` is empty for MQTT 3.1.1."""
    body = struct.pack(">H", len(topic)) + topic + properties + payload
    length = len(body)
    encoded = b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes([digit | (0x80 if length else 0)])
        if not length:
            return b"\x30" + encoded + body


class OddBroker:
    """Answers each connection's first packet with `answer`, and then keeps or closes it.

    closes: whether it closes the connection after its answer. `connections` counts them.
    """

    def __init__(self, answer=b"", closes=False):
        self.answer = answer
        self.closes = closes
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            connection.recv(65536)
            connection.sendall(self.answer)
            if self.closes:
                connection.close()
            else:
                self._open.append(connection)

    def stop(self):
        """Close everything."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for connection in self._open:
            connection.close()
