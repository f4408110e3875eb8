"""What turns texts into vectors: adapters of the role `Embedder`."""
