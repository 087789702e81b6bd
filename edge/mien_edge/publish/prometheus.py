"""Prometheus metrics on loopback, read from the status of service and publisher at each scrape.

Names follow prometheus.io/docs/practices/naming: base units, the unit as suffix, and `_total` for
counters.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mien_edge.errors import PublishError
from mien_edge.status.status_file import PublisherStatus, Status

_ADDRESS = "127.0.0.1"
_BYTES_A_MEGABYTE = 1e6


class Collector:
    """The metrics, as prometheus_client's registry collects them.

    service_status: returns the status of the camera's service, None if it does not run.
    publisher_status: returns the status of the publisher.
    """

    def __init__(
        self,
        service_status: Callable[[], Status | None],
        publisher_status: Callable[[], PublisherStatus],
    ) -> None:
        self._service_status = service_status
        self._publisher_status = publisher_status

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        service = self._service_status()
        yield _gauge("mien_up", "Whether the service runs (1) or not (0)", service is not None)
        if service is not None:
            yield from _service_metrics(service)
            yield from _device_metrics(service)
        yield from _publisher_metrics(self._publisher_status())


class MetricsServer:
    """An HTTP server on 127.0.0.1 in a thread of its own; close it at the end.

    port: port to listen on.
    collector: what is served at /metrics.

    Raises PublishError if the port is taken.
    """

    def __init__(self, port: int, collector: Collector) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)  # type: ignore[arg-type]
        try:
            self._server, self._thread = start_http_server(port, _ADDRESS, registry)
        except OSError as problem:
            address = f"{_ADDRESS}:{port}"
            fix = "choose another publish.metrics_port"
            raise PublishError(f"{address}: {problem.strerror}; {fix}") from None

    def close(self) -> None:
        """Stop answering and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _service_metrics(service: Status) -> Iterator[Metric]:
    resident_bytes = service.resident_megabytes * _BYTES_A_MEGABYTE
    is_camera_lost = service.camera == "lost"
    frames_help = "Frames since the start of the service"
    yield _gauge("mien_frames_per_second", "Frame rate of the last ten seconds", service.fps)
    yield _gauge("process_resident_memory_bytes", "Resident memory of the service", resident_bytes)
    yield CounterMetricFamily("mien_frames", frames_help, value=service.frames)
    yield _stage_durations(service.stage_milliseconds)
    yield _gauge("mien_camera_lost", "Whether the camera is lost (1) or not (0)", is_camera_lost)


def _device_metrics(service: Status) -> Iterator[Metric]:
    health = service.health
    if health.temperature is not None:
        yield _gauge("mien_temperature_celsius", "Temperature of the SoC", health.temperature)
    if health.available_megabytes is not None:
        available_bytes = health.available_megabytes * _BYTES_A_MEGABYTE
        available_help = "Memory that is available on the device"
        yield _gauge("mien_memory_available_bytes", available_help, available_bytes)
    limits_help = "1 for each limit of the SoC that is active"
    limits = GaugeMetricFamily("mien_throttled", limits_help, labels=["limit"])
    for name in health.throttled_now or ():
        limits.add_metric([name], 1.0)
    yield limits


def _stage_durations(milliseconds: dict[str, float]) -> Metric:
    durations_help = "Mean duration of a stage per frame"
    durations = GaugeMetricFamily("mien_stage_duration_seconds", durations_help, labels=["stage"])
    for name, value in milliseconds.items():
        durations.add_metric([name], value / 1000)
    return durations


def _publisher_metrics(publisher: PublisherStatus) -> Iterator[Metric]:
    ratio_help = "Share of a label in the face time of the last minute"
    ratios = GaugeMetricFamily("mien_emotion_ratio", ratio_help, labels=["label"])
    for label, share in publisher.shares.items():
        ratios.add_metric([label], share)
    yield ratios
    yield _gauge("mien_faces", "Most faces in one frame of the last minute", publisher.faces)
    if publisher.broker:
        yield from _broker_metrics(publisher)


def _broker_metrics(publisher: PublisherStatus) -> Iterator[Metric]:
    yield _gauge("mien_entries_waiting", "Log entries that wait for the broker", publisher.waiting)
    refused_help = "Messages that the broker refused since the start of the publisher"
    yield CounterMetricFamily("mien_messages_refused", refused_help, value=publisher.refused)
    aside_help = "Messages that were set aside because the broker will never take them"
    yield CounterMetricFamily("mien_messages_set_aside", aside_help, value=publisher.set_aside)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
