"""nats-servers that run the files of deploy/k8s, with the Secrets of secrets.sh."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from octarm.cli.stack.binaries import find_nats_server
from octarm.cli.stack.children import Command
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.ports import LOOPBACK, ask, free_port
from octarm.cli.stack.servers import Server
from tests.support.manifests.cluster import lay_out, made_secrets, object_of, workloads

TRIES: Final = 3


@dataclass(frozen=True)
class Bus:
    """Running servers, and the Secrets whose passwords and certificates they have."""

    ports: tuple[int, ...]
    secrets: Mapping[str, Mapping[str, str]]
    authority: Path

    def url(self, user: str) -> str:
        """Give the URL of a user's Secret, at the ports where the servers are here."""
        given = self.secrets[f"octarm-{user}"]["octarm_nats_url"].partition("?")[0]
        login = given.partition("@")[0]
        return (
            f"{','.join(f'{login}@{LOOPBACK}:{port}' for port in self.ports)}?ca={self.authority}"
        )


class _Recipe:
    """One server; `routes` are the cluster's ports, its own first, and empty without one."""

    name = "nats"

    def __init__(self, folder: Path, files: Mapping[str, str], routes: tuple[int, ...]) -> None:
        self._folder = folder
        self._files = files
        self._routes = routes

    async def prepare(self, port: int) -> Command:
        """Write the files as the pod has them, with paths and ports of this machine."""
        places = {
            "/etc/nats": str(self._folder / "etc"),
            "/run/nats": str(self._folder),
            "/data": str(self._folder / "data"),
            "0.0.0.0:4222": f"{LOOPBACK}:{port}",
            # Any free port: nobody asks there.
            "0.0.0.0:8222": f"{LOOPBACK}:-1",
        }
        if self._routes:
            places["0.0.0.0:6222"] = f"{LOOPBACK}:{self._routes[0]}"
            for number, route in enumerate(sorted(self._routes)):
                places[f"octarm-nats-{number}.octarm-nats:6222"] = f"{LOOPBACK}:{route}"
        lay_out({key: _moved(text, places) for key, text in self._files.items()}, self._etc)
        argv = [str(find_nats_server().path), "--config", str(self._etc / "nats.conf")]
        return Command(argv=[*argv, "--name", self._folder.name], log=self._folder / "log")

    async def answers(self, port: int, pid: int) -> bool:
        """Whether it greets with the name that we gave."""
        greeting = await ask(port, after=b"INFO ")
        return f'"server_name":"{self._folder.name}"'.encode() in greeting

    def url(self, port: int) -> str:
        """Where it is."""
        return f"tls://{LOOPBACK}:{port}"

    @property
    def _etc(self) -> Path:
        return self._folder / "etc"


@asynccontextmanager
async def a_bus(overlay: str, folder: Path) -> AsyncGenerator[Bus, None]:
    """Run as many servers as an overlay has."""
    (nats,) = [one for one in workloads(overlay) if one.name == "nats"]
    count = int(nats.doc["spec"]["replicas"])
    made = {doc["metadata"]["name"]: doc["stringData"] for doc in made_secrets(count)}
    files = _files(overlay, made)
    authority = folder / "ca.crt"
    authority.write_text(made["octarm-nats-tls"]["ca.crt"])
    async with AsyncExitStack() as stack:
        for number in range(TRIES):
            servers = _servers(folder / str(number), files, count)
            for server in servers:
                stack.push_async_callback(server.stop)
            started = await asyncio.gather(
                *(server.start() for server in servers), return_exceptions=True
            )
            failed = [one for one in started if isinstance(one, BaseException)]
            if not failed:
                break
            # A route's port may have been taken since it was found free.
            await asyncio.gather(*(server.stop() for server in servers))
            if number == TRIES - 1 or not isinstance(failed[0], StackError):
                raise failed[0]
        yield Bus(tuple(server.port for server in servers), made, authority)


def _servers(folder: Path, files: Mapping[str, str], count: int) -> list[Server]:
    routes = tuple(free_port() for _ in range(count)) if count > 1 else ()
    return [
        Server(
            _Recipe(folder / f"octarm-nats-{one}", files, (*routes[one:], *routes[:one])),
        )
        for one in range(count)
    ]


def _files(overlay: str, made: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Give what the pod's volume `config` holds."""
    (nats,) = [one for one in workloads(overlay) if one.name == "nats"]
    (volume,) = [one for one in nats.pod["volumes"] if one["name"] == "config"]
    found: dict[str, str] = {}
    for source in volume["projected"]["sources"]:
        if "configMap" in source:
            found |= object_of(overlay, "ConfigMap", source["configMap"]["name"])["data"]
        else:
            content = made[source["secret"]["name"]]
            found |= {item["path"]: content[item["key"]] for item in source["secret"]["items"]}
    return found


def _moved(text: str, places: Mapping[str, str]) -> str:
    for there, here in places.items():
        text = text.replace(there, here)
    return text
