"""The bus: connection, topology, publisher, pull runner, requests, leadership."""
