"""Other task queues under the same load: `python -m bench --peers`.

Each module is one peer with its recommended fast and durable settings: late acknowledgements,
results kept, several workers. It names what it needs, the settings to try, and has one function
that sends `n` no-op tasks, awaits every result and checks it.
"""
