"""Pure rules of the gateway: who is asking, and which headers are believed."""
