"""The memory service's subscriptions: translation only."""
