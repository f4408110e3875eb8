"""Where scripted policies run: child processes that may compute and answer, nothing else."""
