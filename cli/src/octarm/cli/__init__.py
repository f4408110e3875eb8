"""The octarm command and the embedded stack."""
