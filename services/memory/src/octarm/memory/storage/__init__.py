"""Where memories are kept: Postgres, and Redis in front."""
