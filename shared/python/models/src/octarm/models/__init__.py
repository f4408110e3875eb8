"""Contracts, events, commands, queries, ids, errors and subjects of Octarm."""
