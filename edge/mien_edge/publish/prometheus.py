"""Prometheus metrics on loopback, read from the status of service and publisher at each scrape."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mien_edge.errors import PublishError
from mien_edge.status.status_file import PublisherStatus, Status

_MEGABYTE = 1e6


class Collector:
    """What Prometheus scrapes; `ask` returns the states of the service and of the publisher, None for one that does not
    run. Names follow prometheus.io/docs/practices/naming: base units, the unit as suffix, `_total` for counters.
    """

    def __init__(self, ask: Callable[[], tuple[Status | None, PublisherStatus | None]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        service, publisher = self._ask()
        yield _gauge("mien_up", "Whether the service runs (1) or not (0)", float(bool(service)))
        if service:
            yield from _service_metrics(service)
        if publisher:
            yield from _publisher_metrics(publisher)


def _service_metrics(service: Status) -> Iterator[Metric]:
    health = service.health
    yield _gauge("mien_frames_per_second", "Frame rate of the last ten seconds", service.fps)
    if health.temperature is not None:
        yield _gauge("mien_temperature_celsius", "Temperature of the SoC", health.temperature)
    if health.available_megabytes is not None:
        available = health.available_megabytes * _MEGABYTE
        yield _gauge("mien_memory_available_bytes", "Memory that is available on the device", available)
    resident = service.resident_megabytes * _MEGABYTE
    yield _gauge("process_resident_memory_bytes", "Resident memory of the service", resident)
    yield CounterMetricFamily("mien_frames", "Frames since the start of the service", value=service.frames)
    stages = GaugeMetricFamily("mien_stage_duration_seconds", "Mean duration of a stage per frame", labels=["stage"])
    for name, milliseconds in service.stage_milliseconds.items():
        stages.add_metric([name], milliseconds / 1000)
    yield stages
    limits = GaugeMetricFamily("mien_throttled", "1 for each limit of the SoC that is active", labels=["limit"])
    for name in health.throttled_now or ():
        limits.add_metric([name], 1.0)
    yield limits
    yield _gauge("mien_camera_lost", "Whether the camera is lost (1) or not (0)", float(service.camera == "lost"))


def _publisher_metrics(publisher: PublisherStatus) -> Iterator[Metric]:
    ratios = GaugeMetricFamily(
        "mien_emotion_ratio", "Share of a label in the face time of the last minute", labels=["label"]
    )
    for label, share in publisher.shares.items():
        ratios.add_metric([label], share)
    yield ratios
    yield _gauge("mien_faces", "Most faces in one frame of the last minute", float(publisher.faces))
    yield _gauge("mien_entries_waiting", "Log entries that wait for the broker", float(publisher.waiting))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


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
