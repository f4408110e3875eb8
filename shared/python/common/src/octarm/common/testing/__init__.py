"""Fakes for tests; each is held to the real thing by a contract suite."""

from octarm.common.testing.fakes import FakeClock, RecordingPublisher

__all__ = ["FakeClock", "RecordingPublisher"]
