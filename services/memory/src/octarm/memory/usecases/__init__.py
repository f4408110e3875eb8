"""What the memory service does when a message arrives or time passes."""
