"""What may happen to a task, and how it is told; no I/O, no clock."""
