"""Typed request clients for Octarm services."""
