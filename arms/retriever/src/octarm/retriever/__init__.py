"""The arm that answers a goal from memory, with citations."""
