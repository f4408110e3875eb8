"""Whether NetworkPolicies let one pod reach another: what a network plugin would decide."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.manifests.patching import Doc


@dataclass(frozen=True)
class Peer:
    """A pod, or with `address` somebody outside the cluster."""

    name: str
    namespace: str = "octarm"
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def reaches(policies: Iterable[Doc], source: Peer, target: Peer, port: tuple[str, int]) -> bool:
    """Tell whether `source` may open a connection to a port (`TCP`, number) of `target`.

    Both sides must let it through. A side that no policy selects lets everything through.
    """
    known = list(policies)
    return _lets(known, source, target, "Egress", port) and _lets(
        known, target, source, "Ingress", port
    )


def _lets(
    policies: list[Doc], owner: Peer, other: Peer, direction: str, port: tuple[str, int]
) -> bool:
    selecting = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == owner.namespace
        and not owner.address
        and _selects(policy["spec"]["podSelector"], owner.labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    if not selecting:
        return True
    way = "to" if direction == "Egress" else "from"
    return any(
        _rule_lets(rule, way, owner, other, port)
        for spec in selecting
        for rule in spec.get(direction.lower(), ())
    )


def _rule_lets(rule: Doc, way: str, owner: Peer, other: Peer, port: tuple[str, int]) -> bool:
    ports = [(one.get("protocol", "TCP"), one["port"]) for one in rule.get("ports", ())]
    if ports and port not in ports:
        return False
    peers = rule.get(way)
    return not peers or any(_is_peer(peer, owner, other) for peer in peers)


def _is_peer(peer: Doc, owner: Peer, other: Peer) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return bool(other.address) and _within(other.address, block)
    if other.address:
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif other.namespace != owner.namespace:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _within(address: str, block: Doc) -> bool:
    one = ipaddress.ip_address(address)
    if one not in ipaddress.ip_network(block["cidr"]):
        return False
    return not any(one in ipaddress.ip_network(hole) for hole in block.get("except", ()))


def _selects(selector: Doc, labels: Mapping[str, str]) -> bool:
    expressions: list[dict[str, Any]] = selector.get("matchExpressions", [])
    return all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    ) and all(_holds(expression, labels) for expression in expressions)


def _holds(expression: Doc, labels: Mapping[str, str]) -> bool:
    if expression["operator"] != "In":
        raise NotImplementedError(expression["operator"])
    return labels.get(expression["key"]) in expression["values"]
