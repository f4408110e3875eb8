"""What the scheduler decides by: pure, no I/O, no clock, no async; `now` is passed in."""
