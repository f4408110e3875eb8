"""The dashboards' panels as pictures: `python -m bench.panels`, or `make panels`."""
