"""What an episode is and how a list of them is paged: pure, without I/O or a clock."""
