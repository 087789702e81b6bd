"""Prometheus metrics on loopback, read from what the service tells at the moment of asking."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mien_edge.errors import PublishError

_GAUGES = {
    "fps": "frames per second through the chain",
    "temperature": "degrees Celsius of the SoC",
    "memory": "megabytes of memory left on the device",
    "rss": "megabytes in use by the service",
    "frames": "frames since the start of the service",
}


class Collector:
    """What Prometheus asks; `ask` gives the service's and the publisher's state, {} for one that does not run."""

    def __init__(self, ask: Callable[[], tuple[dict[str, Any], dict[str, Any]]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        service, publisher = self._ask()
        yield _gauge("up", "1 while the service runs", [({}, float(bool(service)))])
        for name, text in _GAUGES.items():
            if service.get(name) is not None:
                yield _gauge(name, text, [({}, service[name])])
        if service:
            spent = [({"stage": name}, value) for name, value in service["milliseconds"].items()]
            yield _gauge("milliseconds", "milliseconds a frame takes in a stage", spent)
            limits = [({"limit": name}, 1.0) for name in service.get("limits") or ()]
            yield _gauge("limited", "1 for each limit that holds now", limits)
            yield _gauge("camera_lost", "1 while the camera is lost", [({}, float(service["camera"] == "lost"))])
        for label, share in (publisher.get("shares") or {}).items():
            yield _gauge("share", "share of a label in the face time of the last minute", [({"label": label}, share)])
        if publisher:
            yield _gauge("faces", "faces now, or in the last minute", [({}, float(publisher["faces"]))])
            yield _gauge("waiting", "entries that wait for the broker", [({}, float(publisher["waiting"]))])


def _gauge(name: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> Metric:
    values = list(values)
    family = GaugeMetricFamily(f"mien_{name}", text, labels=list(values[0][0]) if values else [])
    for labels, value in values:
        family.add_metric(list(labels.values()), value)
    return family


def serve(port: int, collector: Collector) -> Callable[[], None]:
    """Answer on 127.0.0.1:`port` until the returned function is called. Raises PublishError if the port is taken."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)  # type: ignore[arg-type]
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as problem:
        raise PublishError(f"127.0.0.1:{port}: {problem.strerror}; choose another publish.metrics_port") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
