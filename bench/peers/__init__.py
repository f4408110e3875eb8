"""Other task queues under the same load: `python -m bench --peers`.

Each module is one peer with its recommended settings: late acknowledgements, results kept, several
workers. It names what it needs, where it keeps tasks, the settings to try, and has one function
that sends `n` no-op tasks, awaits every result and checks it. A peer on Redis is measured twice:
fast (synced once a second, so a power cut takes a second of accepted tasks) and durable (synced
before the answer, as Octarm and every peer on Postgres do).
"""
