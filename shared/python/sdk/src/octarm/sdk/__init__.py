"""Write arms and clients for Octarm."""
