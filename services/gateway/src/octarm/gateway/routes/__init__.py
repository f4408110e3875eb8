"""The HTTP routes: translation only."""
