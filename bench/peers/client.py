"""The client process of a peer: `python -m bench.peers.client NAME VERB`.

VERB is describe, prepare or measure.
"""

import json
import os
import sys
from dataclasses import asdict

from bench.peers.harness import WARM_UP, peer


def main(name: str, verb: str) -> None:
    """Print what is asked for as the last line."""
    module = peer(name)
    if verb == "describe":
        settings = [asdict(setting) for setting in module.SETTINGS]
        said = {"settings": settings, "conditions": module.CONDITIONS, "store": module.STORE}
        print(json.dumps(said))
    elif verb == "prepare":
        getattr(module, "prepare", lambda: None)()
    else:
        module.measure(WARM_UP)
        print(module.measure(int(os.environ["BENCH_N"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
