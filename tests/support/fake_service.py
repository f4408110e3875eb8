"""A process that behaves as a service does towards the supervisor: `/readyz`, SIGTERM, no more.

Run as `fake_service.py [--name NAME] [--stubborn] [--fail MESSAGE]`; what it is told by signals
it notes in `$FAKE_JOURNAL`.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

JOURNAL = "FAKE_JOURNAL"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="fake")
    parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
    parser.add_argument("--fail", metavar="MESSAGE", help="write it and exit with 1")
    options = parser.parse_args()
    if options.fail:
        sys.exit(options.fail)
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: leave(options.name))
    signal.signal(signal.SIGHUP, lambda *_: note(f"{options.name} reloads"))
    serve(int(os.environ["OCTARM_HTTP_PORT"]))


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(ANSWER)


def leave(name: str) -> None:
    note(f"{name} leaves")
    os._exit(0)


def note(line: str) -> None:
    journal = os.environ.get(JOURNAL)
    if journal:
        with Path(journal).open("a") as file:
            file.write(f"{line}\n")


if __name__ == "__main__":
    main()
