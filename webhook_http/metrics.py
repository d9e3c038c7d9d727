"""What is counted: in a registry of the sidecar's own, with labels that no sender can multiply."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

UNKNOWN = "unknown"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)


class SidecarMetrics:
    """Provider and account are configured ones or "unknown"; statuses and outcomes are our own few."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._callbacks = Counter(
            "obol_webhook_callbacks",
            "Callbacks answered, by HTTP status and outcome (KEPT, DUPLICATE or the reason of a refusal).",
            ("provider", "account", "status", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "obol_webhook_seconds",
            "From the request's head to the answer.",
            ("provider",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge("obol_webhook_under_way", "Callbacks under way.", registry=self.registry)

    def answered(self, provider: str, account_id: str, status: int, outcome: str, seconds: float) -> None:
        """One callback was answered."""
        self._callbacks.labels(provider, account_id, str(status), outcome).inc()
        self._seconds.labels(provider).observe(seconds)

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)
