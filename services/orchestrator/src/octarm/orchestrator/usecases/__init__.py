"""What the orchestrator does when a message arrives or time passes."""
