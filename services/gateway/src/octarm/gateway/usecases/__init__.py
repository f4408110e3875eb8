"""What happens when a request arrives."""
