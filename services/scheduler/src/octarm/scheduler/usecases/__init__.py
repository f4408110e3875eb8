"""What the scheduler does when something arrives, and the ports that it needs for it."""
