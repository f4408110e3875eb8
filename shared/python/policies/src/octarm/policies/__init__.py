"""How waiting work is ordered and placed: what policies see, what they may do, where they run."""
