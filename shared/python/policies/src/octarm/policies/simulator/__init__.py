"""Policies in virtual time: the queue, the arms' rules and the policies are the real ones."""
