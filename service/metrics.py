"""What Prometheus sees. Labels come from closed sets, and every series exists from the start."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from triage.answer import FAILURE_REASONS
from triage.pipeline import Prediction
from triage.taxonomy import Taxonomy

ROUTES = ("tickets", "schema", "other")
OUTCOMES = ("ok", "client_error", "refused", "server_error")
LATENCY_EDGES_S = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The service's own registry: two apps in one process do not share counts."""

    def __init__(self, taxonomy: Taxonomy, release: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("triage_http_requests", "Requests by route and outcome.", ["route", "outcome"], registry=self.registry)
        self.latency = Histogram(
            "triage_http_request_duration_seconds", "Time to answer a request.", ["route"], buckets=LATENCY_EDGES_S, registry=self.registry
        )
        self.tickets = Counter("triage_tickets", "Tickets by category and by who decided.", ["category", "decided_by"], registry=self.registry)
        self.failures = Counter("triage_engine_failures", "Messages the engine could not answer.", ["reason"], registry=self.registry)
        self.handovers = Counter("triage_handovers", "Tickets that need a person, and those that do not.", ["needs_human"], registry=self.registry)
        self.in_flight = Gauge("triage_messages_in_flight", "Messages being read now.", registry=self.registry)
        self.engine_up = Gauge("triage_engine_up", "1 while the engine process runs.", registry=self.registry)
        info = Info("triage_release", "What is served.", registry=self.registry)
        info.info({"release": release, "taxonomy": taxonomy.digest[:12]})
        for route in ROUTES:
            self.latency.labels(route)
            for outcome in OUTCOMES:
                self.requests.labels(route, outcome)
        for category in taxonomy.labels("category"):
            for who in ("model", "policy", "fallback"):
                self.tickets.labels(category, who)
        for reason in FAILURE_REASONS:
            self.failures.labels(reason)
        for answer in ("true", "false"):
            self.handovers.labels(answer)

    def count_prediction(self, prediction: Prediction) -> None:
        """Count one ticket that left the house."""
        self.tickets.labels(prediction.ticket.category, prediction.decided_by).inc()
        self.handovers.labels(prediction.ticket.label("needs_human")).inc()
        if prediction.status == "unread":
            self.failures.labels(prediction.reasons[0]).inc()


def outcome_of(status: int) -> str:
    """The outcome label of an HTTP status."""
    if status in (429, 503):
        return "refused"
    if status >= 500:
        return "server_error"
    return "client_error" if status >= 400 else "ok"
