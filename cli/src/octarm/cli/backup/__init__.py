"""Backups of what cannot be made again: the ledger, memory, and the policies."""
