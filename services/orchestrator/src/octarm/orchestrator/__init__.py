"""The task ledger of Octarm: accepts, retries, finishes and accounts."""
