"""What people ask about policies, answered."""
