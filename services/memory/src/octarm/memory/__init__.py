"""Episodic memory: Redis in front of durable Postgres."""
