"""Prometheus metrics: every name, kind, label and meaning stands in the one list below.

What is asked in OpenMetrics also has exemplars: the trace of one of the tasks that were measured.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import choose_encoder

from octarm.common.telemetry.traceparents import is_sampled, trace_id

Kind = Literal["counter", "gauge", "histogram"]
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; labels must have few values."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    """Values of its last label that are there from the start, at 0; of two labels `begin_of`.

    A series that begins with its first event hides this event from `rate` and `increase`.
    """


# What a consumer counts; each of its series begins with the consumer.
BUS_COUNTERS: Final = (
    Metric("octarm_bus_handler_failures_total", "counter", "Batches a bug failed", ("consumer",)),
    Metric("octarm_bus_dead_letters_total", "counter", "Messages sent to the DLQ", ("consumer",)),
    Metric("octarm_bus_quarantined_total", "counter", "Messages not as ours are", ("consumer",)),
    Metric("octarm_bus_drains_cut_short_total", "counter", "Drains out of time", ("consumer",)),
)

METRICS: Final = (
    *BUS_COUNTERS,
    Metric("octarm_bus_stale_requests_total", "counter", "Requests nobody awaits any more"),
    Metric("octarm_bus_slow_reader_total", "counter", "Times that we read too slowly and lost"),
    Metric("octarm_gateway_requests_total", "counter", "HTTP requests", ("route", "status")),
    Metric(
        "octarm_gateway_request_seconds", "histogram", "Until an HTTP answer begins", ("route",)
    ),
    Metric("octarm_gateway_streams", "gauge", "Open SSE streams"),
    Metric("octarm_orchestrator_tasks_accepted_total", "counter", "Tasks accepted"),
    Metric("octarm_orchestrator_tasks_refused_total", "counter", "Submissions refused", ("code",)),
    Metric("octarm_orchestrator_requests_refused_total", "counter", "Requests refused unread"),
    Metric(
        "octarm_orchestrator_tasks_ended_total",
        "counter",
        "Tasks ended",
        ("state",),
        ("completed", "failed", "cancelled", "timed_out", "rejected"),
    ),
    Metric("octarm_orchestrator_late_results_total", "counter", "Results that came too late"),
    Metric("octarm_orchestrator_told_again_total", "counter", "Tasks whose message was lost"),
    Metric("octarm_orchestrator_tasks_retired_total", "counter", "Old tasks deleted"),
    Metric("octarm_orchestrator_outbox_rows", "gauge", "Outbox rows not yet published"),
    Metric("octarm_orchestrator_waiting_tasks", "gauge", "Tasks waiting or queued"),
    Metric("octarm_orchestrator_admission_closed", "gauge", "1 while fresh tasks get 429"),
    Metric("octarm_orchestrator_shedding", "gauge", "Load-shedding switches that are on"),
    Metric("octarm_scheduler_queued_tasks", "gauge", "Tasks that wait to be placed", ("tier",)),
    Metric("octarm_scheduler_placements_total", "counter", "Attempts placed", ("policy",)),
    Metric(
        "octarm_scheduler_placement_seconds",
        "histogram",
        "Ready to placed, at most",
    ),
    Metric("octarm_scheduler_cycle_seconds", "histogram", "One scheduling cycle"),
    Metric("octarm_scheduler_oldest_wait_seconds", "gauge", "Longest wait in the queue"),
    Metric(
        "octarm_scheduler_policy_errors_total",
        "counter",
        "Cycles in which a policy gave nothing, and the platform's decided",
        ("policy", "reason"),
        ("error", "timeout", "memory", "crash", "bad_return", "unavailable"),
    ),
    Metric(
        "octarm_scheduler_policy_dropped_total",
        "counter",
        "Actions of a policy that were not taken",
        ("policy", "kind"),
    ),
    Metric(
        "octarm_scheduler_rejected_total", "counter", "Waiting tasks that were ended", ("code",)
    ),
    Metric("octarm_scheduler_policy_seconds", "histogram", "One question to a policy"),
    Metric(
        "octarm_scheduler_shadow_total",
        "counter",
        "Cycles in which the shadow was asked too",
        ("policy", "outcome"),
    ),
    Metric("octarm_registry_arms", "gauge", "Arms in the directory", ("status",)),
    Metric("octarm_registry_heartbeats_total", "counter", "Heartbeats", ("outcome",)),
    Metric("octarm_memory_episodes_total", "counter", "Episodes of finished tasks kept"),
    Metric("octarm_memory_episodes_forgotten_total", "counter", "Old episodes deleted"),
    Metric("octarm_memory_writes_total", "counter", "Entries taken", ("durability",)),
    Metric("octarm_memory_entries_total", "counter", "Entries written to Postgres"),
    Metric("octarm_memory_writes_at_risk", "gauge", "Fast writes the stream has not"),
    Metric("octarm_memory_write_lag_seconds", "gauge", "Stream to Postgres, the oldest of late"),
    Metric("octarm_memory_staleness_seconds", "gauge", "Redis behind Postgres, at most"),
    Metric("octarm_memory_stale_total", "counter", "Episodes that Redis served too little of"),
    Metric(
        "octarm_memory_reads_total",
        "counter",
        "Episode reads",
        ("source",),
        ("redis", "postgres", "none"),
    ),
    Metric("octarm_memory_remembered_total", "counter", "Memories handed in", ("outcome",)),
    Metric("octarm_memory_searches_total", "counter", "Searches of memory", ("mode",)),
    Metric("octarm_memory_embedding_failures_total", "counter", "Texts that got no vector"),
    Metric("octarm_memory_reembedded_total", "counter", "Memories given a new vector"),
    Metric(
        "octarm_memory_consolidated_total",
        "counter",
        "Memories made of episodes, by rule; failed: episodes, unreadable: wishes;"
        " condense_asked, not_condensed: tasks for a model",
        ("rule",),
    ),
    Metric("octarm_memory_consolidation_waiting", "gauge", "Episodes due to be looked through"),
    Metric(
        "octarm_memory_consolidation_late_seconds",
        "gauge",
        "For how long the oldest of them is due; old episodes stay meanwhile",
    ),
    Metric("octarm_memory_expired_total", "counter", "Old rows of semantic memory deleted"),
    Metric("octarm_memory_audit_dropped_total", "counter", "Entries of the audit that were lost"),
    Metric("octarm_memory_erasures_total", "counter", "Subjects erased", ("kind",)),
    Metric("octarm_memory_degraded", "gauge", "1 while Redis does not answer"),
    Metric("octarm_arm_running_attempts", "gauge", "Attempts under way"),
    Metric(
        "octarm_arm_attempts_total",
        "counter",
        "Attempts ended",
        ("status",),
        ("success", "failure"),
    ),
    Metric("octarm_arm_attempt_seconds", "histogram", "Time of an attempt"),
)

# The second word of a metric's name says whose it is.
_OWNERS: Final = {
    **{name: name for name in ("gateway", "orchestrator", "scheduler", "memory")},
    "arm-registry": "registry",
}
# Whoever is on the bus counts these.
BUS: Final = "bus"
registry: Final = CollectorRegistry()
_made: dict[str, Counter | Gauge | Histogram] = {}


def _make(metric: Metric) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=SECONDS)


_BY_NAME: Final = {metric.name: metric for metric in METRICS}


def _get(name: str) -> Counter | Gauge | Histogram:
    made = _made.get(name)
    if made is None:
        made = _made[name] = _make(_BY_NAME[name])
    return made


_labelled: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}


def _of(name: str, labels: dict[str, str]) -> Any:
    """Give a metric with its labels; the library's own look-up takes longer than counting."""
    if not labels:
        return _get(name)
    key = (name, *labels, *labels.values())
    known = _labelled.get(key)
    if known is None:
        known = _labelled[key] = _get(name).labels(**labels)
    return known


def inc(name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    _of(name, labels).inc(amount)


def put(name: str, value: float, **labels: str) -> None:
    """Set a gauge."""
    _of(name, labels).set(value)


def observe(name: str, value: float, *, traceparent: str = "", **labels: str) -> None:
    """Put a value into a histogram; of a sampled trace it becomes the bucket's exemplar."""
    exemplar = {"trace_id": trace_id(traceparent)} if is_sampled(traceparent) else None
    _of(name, labels).observe(value, exemplar)


def begin(service: str) -> None:
    """Show the metrics of a service (or of an arm) from its start on, what counts at 0."""
    # Series of when counters began would double what is scraped; nobody asks for them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    owner = _OWNERS.get(service, "arm")
    for metric in METRICS:
        if metric.name.split("_")[1] in (owner, BUS):
            if not metric.labels:
                _get(metric.name)
            if len(metric.labels) == 1:
                begin_of(metric.name)


def begin_of(name: str, **labels: str) -> None:
    """Show a counter at 0 with these labels and each value that its last one starts with."""
    metric = _BY_NAME[name]
    for value in metric.starts:
        _of(name, {**labels, metric.labels[-1]: value})


def begin_consumer(durable: str) -> None:
    """Show what a consumer counts, at 0."""
    for metric in BUS_COUNTERS:
        inc(metric.name, 0, consumer=durable)


def exposition() -> bytes:
    """Give everything in Prometheus' text format."""
    return generate_latest(registry)


def negotiated(accept: str) -> tuple[bytes, str]:
    """Give everything in the format that is asked for, and its content type.

    Only OpenMetrics has exemplars.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
