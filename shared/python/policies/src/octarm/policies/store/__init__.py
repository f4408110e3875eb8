"""Where the book of policies is kept: the one part that knows NATS."""
