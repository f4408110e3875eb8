"""The embedded stack: every server, service and arm of Octarm as child processes of one command."""
