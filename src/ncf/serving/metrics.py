"""What the server counts, in Prometheus' format; docs/serving.md says what each metric means.

The one decision worth knowing: with several workers every worker writes its counts to a mapped file of a
common folder (PROMETHEUS_MULTIPROC_DIR), and whichever worker is asked adds them up. The counts of a worker
that was killed are not lost.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class ServerMetrics:
    """Counters of one server; each app has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ncf_requests", "Requests to /invocations by HTTP status.", ["status"], registry=self.registry
        )
        self.lists = Counter(
            "ncf_lists",
            "Lists answered, by source: model, fold_in, popularity, trending or similar.",
            ["source"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "ncf_request_seconds", "From the whole body read to the answer ready, waiting included.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.computing = Histogram(
            "ncf_compute_seconds", "Reading, answering and writing one request, without waiting.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.model = Counter(
            "ncf_model_seconds",
            "Seconds in the recommender itself, the model's arithmetic included.",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "ncf_waiting_requests", "Requests that wait for the compute thread or are in it.",
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip

        # Looking a label up costs as much as counting, so what was looked up is kept.
        self._of_status = cache(lambda status: self.requests.labels(str(status)))
        self._of_source = cache(self.lists.labels)

    def count_request(self, status: int) -> None:
        """One more answer with this HTTP status."""
        self._of_status(status).inc()

    def count_lists(self, sources: Iterable[Sequence[str]]) -> None:
        """One more list from each of the sources of some answers."""
        for answer in sources:
            for source in answer:
                self._of_source(source).inc()

    def text(self) -> bytes:
        """The counts of all workers."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        everybody = CollectorRegistry()
        multiprocess.MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)


def forget(worker: int | None) -> None:
    """Take the gauges of a worker that ended out of the sums; its counts stay. `worker` is its process id."""
    multiprocess.mark_process_dead(worker)  # type: ignore[no-untyped-call]
