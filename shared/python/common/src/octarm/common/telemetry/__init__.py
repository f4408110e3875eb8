"""Logs, traces and metrics: set up once by each process."""

from octarm.common.telemetry import metrics, tracing
from octarm.common.telemetry.logs import get_logger, setup_logs

__all__ = ["get_logger", "metrics", "setup", "tracing"]


def setup(
    service: str, *, log_level: str, trace_export: str, trace_sample: float, instance: str = ""
) -> None:
    """Configure logging, metrics and tracing of this process; call it once, first."""
    setup_logs(service, log_level)
    metrics.begin(service)
    tracing.setup_tracing(service, trace_export, sample=trace_sample, instance=instance)
