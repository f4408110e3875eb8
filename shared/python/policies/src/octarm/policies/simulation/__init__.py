"""Simulating policies that nobody vouches for: in a child process, within limits."""
