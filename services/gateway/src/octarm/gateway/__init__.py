"""The public HTTP API of Octarm."""
