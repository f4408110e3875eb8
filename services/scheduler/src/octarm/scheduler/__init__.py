"""Places ready tasks on arms by policy and explains each decision."""
