"""Whether the ledger, the bus and what clients saw agree: the invariants, checked from outside.

It shares no code with the services that it judges, only the models and the database itself.
"""
