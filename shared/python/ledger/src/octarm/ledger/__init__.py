"""The task ledger: its rules, its tables, and the statements that keep the one to the other."""
