"""Load scenarios: `python -m bench.load NAME`; each ends with the invariants checked."""
