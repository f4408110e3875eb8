"""Typed request clients, one module per service; what they raise is what was answered."""
