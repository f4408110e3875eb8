"""Questions about policies, which any scheduler answers for all of them."""
