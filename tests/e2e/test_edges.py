"""Whom each process really talks to, beside whom the NetworkPolicies let it."""

import json
from urllib.parse import urlsplit

import psutil
import pytest

from tests.e2e.conftest import Up
from tests.support.manifests.cluster import workloads
from tests.support.wait import wait_until
from tests.unit.deploy.test_network import used

pytestmark = pytest.mark.e2e

SERVERS = ("nats", "postgres", "redis")
SERVICES = ("gateway", "orchestrator", "scheduler", "arm-registry", "memory")


def _ports(up: Up) -> dict[int, str]:
    urls = json.loads((up.data / "up.json").read_text())
    found = {urlsplit(urls[server]).port: server for server in SERVERS}
    return {port: server for port, server in found.items() if port is not None}


def _talks_to(pid: int, ports: dict[int, str]) -> set[str]:
    family = [psutil.Process(pid)]
    family += family[0].children(recursive=True)
    open_ones = [one for process in family for one in process.net_connections(kind="tcp")]
    # What others have opened to it comes in on its own port.
    own = {one.laddr.port for one in open_ones if one.status == psutil.CONN_LISTEN}
    return {
        ports.get(one.raddr.port, "somebody else")
        for one in open_ones
        if one.status == psutil.CONN_ESTABLISHED and one.laddr.port not in own
    }


async def test_each_talks_to_whom_the_policies_let_it_and_to_nobody_else(up: Up) -> None:
    ports = _ports(up)
    allowed = {
        one.name: {target for _, target, _ in used("dev", one)} & set(SERVERS)
        for one in workloads("dev")
        if one.name in SERVICES
    }

    def found() -> dict[str, set[str]]:
        return {service: _talks_to(up.pids[service], ports) for service in SERVICES}

    # A connection to Postgres may be made anew just now.
    await wait_until(lambda: found() == allowed)
    assert allowed["memory"] == set(SERVERS)
