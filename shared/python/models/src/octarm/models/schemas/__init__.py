"""The documents generated from the models: JSON Schemas, Protocol Buffers, AsyncAPI."""
