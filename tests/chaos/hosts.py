"""Hosts of a test: network namespaces on one bridge, which only this machine can see.

The services and the driver live in the namespace `hub`, where the bridge is; each node has one of
its own. Addresses are those that documents may use (192.0.2.0/24); nothing leaves the machine.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

NODES: Final = (1, 2, 3)
NOWHERE: Final = "02:00:00:00:00:ff"


def address(node: int) -> str:
    """Where a node is."""
    return f"192.0.2.{node}"


def why_no_hosts() -> str | None:
    """What this machine lacks for namespaces; None when it can have them."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    name = f"octarm-{os.getpid()}-probe"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, timeout=10)
        subprocess.run(["ip", "netns", "del", name], check=True, capture_output=True, timeout=10)
    except FileNotFoundError:
        return "`ip` is missing (Debian: apt-get install iproute2)"
    except subprocess.CalledProcessError as error:
        return f"network namespaces are forbidden here: {error.stderr.decode().strip()}"
    return None


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hub and its nodes; `name` begins the names of their namespaces."""

    name: str

    @property
    def hub(self) -> str:
        """The namespace in which services and driver run."""
        return f"{self.name}-hub"

    def namespace(self, node: int) -> str:
        """The namespace of a node."""
        return f"{self.name}-n{node}"

    def run_on(self, node: int) -> tuple[str, ...]:
        """The prefix of a command that runs on a node."""
        return ("ip", "netns", "exec", self.namespace(node))

    def unplug(self, node: int) -> None:
        """Cut a node off from everybody."""
        _ip("-n", self.hub, "link", "set", f"port{node}", "nomaster")

    def plug_in(self, node: int) -> None:
        """Undo `unplug`."""
        _ip("-n", self.hub, "link", "set", f"port{node}", "master", "bridge")

    def mute(self, node: int, towards: int) -> None:
        """Drop what a node sends to another one; the other direction works on."""
        where = (address(towards), "lladdr", NOWHERE, "nud", "permanent", "dev", "eth0")
        _ip("-n", self.namespace(node), "neigh", "replace", *where)

    def unmute(self, node: int, towards: int) -> None:
        """Undo `mute`."""
        _ip("-n", self.namespace(node), "neigh", "del", address(towards), "dev", "eth0")


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Make hub and nodes; remove them at the end, with everything in them."""
    made = Hosts(f"octarm-{os.getpid()}")
    spaces = [made.hub, *(made.namespace(node) for node in NODES)]
    try:
        for space in spaces:
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", made.hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", made.hub, "addr", "add", "192.0.2.10/24", "dev", "bridge")
        _ip("-n", made.hub, "link", "set", "bridge", "up")
        for node in NODES:
            peer = ("type", "veth", "peer", "name", "eth0", "netns", made.namespace(node))
            _ip("-n", made.hub, "link", "add", f"port{node}", *peer)
            _ip("-n", made.hub, "link", "set", f"port{node}", "master", "bridge", "up")
            here = made.namespace(node)
            _ip("-n", here, "addr", "add", f"{address(node)}/24", "dev", "eth0")
            _ip("-n", here, "link", "set", "eth0", "up")
        yield made
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)
