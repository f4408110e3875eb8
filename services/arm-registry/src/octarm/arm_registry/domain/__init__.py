"""Who may register what, and how well an arm is: pure, without I/O or a clock."""
