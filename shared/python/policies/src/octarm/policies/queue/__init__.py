"""What waits, for which arms, within which limits: pure, no I/O, no clock; `now` is passed in."""
