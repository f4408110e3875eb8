"""Bus, storage, telemetry, health and clock shared by Octarm services."""
