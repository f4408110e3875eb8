"""The files of deploy/k8s/base/nats and the Secrets of secrets.sh, on real nats-servers."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS

from octarm.cli.rights import accounts_in, rights
from octarm.cli.stack.doctor import Verdict
from octarm.cli.stack.servers import Server
from octarm.cli.stack.services import Role, ServiceRecipe
from octarm.common.bus.connection import connect_options, connected_to, servers
from octarm.common.bus.identity import who_is_there
from octarm.common.bus.requests import answer, ask, control_plane
from octarm.common.bus.topology import STREAMS, provision
from octarm.models import subjects as s
from octarm.models.arms import ArmRecord
from octarm.models.contracts import TaskContract
from octarm.models.errors import NotFound, Unavailable
from octarm.models.queries import ArmKey
from octarm.sdk import Arm, Context
from tests.support.arm_stage import a_command, a_task, an_arm_stage
from tests.support.manifests.cluster import lay_out, variables, workloads
from tests.support.manifests.nats_stage import Bus, a_bus
from tests.support.manifests.permissions import (
    ARMS,
    allowed_to_hear,
    allowed_to_publish,
    forbidden_to_hear,
    forbidden_to_publish,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

SERVICES = ("gateway", "orchestrator", "scheduler", "arm-registry", "memory", "provision")


@pytest_asyncio.fixture
async def bus(tmp_path: Path) -> AsyncGenerator[Bus, None]:
    """The one server of the overlay dev."""
    async with a_bus("dev", tmp_path) as one:
        yield one


async def test_services_come_in_and_streams_fit(bus: Bus) -> None:
    async with connected_to(bus.url("provision"), name="a", expect_cluster="octarm-nats-0") as nc:
        done = await provision(nc.jetstream(), replicas=1)
    for service in SERVICES:
        async with connected_to(bus.url(service), name=service) as nc:
            await nc.jetstream().stream_info(s.READY)

    assert {f"stream {spec.name} created" for spec in STREAMS} <= set(done)


async def test_questions_are_answered_over_tls(bus: Bus) -> None:
    router = NatsRouter()

    @answer(router, s.GET_ARM, queue="arm-registry")
    async def get_arm(query: ArmKey) -> ArmRecord:
        raise NotFound(f"there is no arm {query.arm_id}")

    async with (
        control_plane(bus.url("arm-registry"), router, name="arm-registry"),
        connected_to(bus.url("llm"), name="llm") as nc,
    ):
        with pytest.raises(NotFound, match="no arm llm"):
            await ask(nc, s.GET_ARM, ArmKey(arm_id="llm"), timeout_s=30)


async def test_strangers_stay_out(bus: Bus, tmp_path: Path) -> None:
    good = bus.url("gateway")
    (tmp_path / "other").mkdir()
    async with a_bus("dev", tmp_path / "other") as other:
        wrong = [
            good.replace(str(bus.authority), str(other.authority)),
            good.replace(bus.url("gateway").split("@")[0], other.url("gateway").split("@")[0]),
            f"nats://{good.partition('@')[2].partition('?')[0]}",
        ]

        for url in wrong:
            with pytest.raises(Unavailable):
                async with connected_to(url, name="stranger"):
                    pass


async def test_an_arm_works_with_no_more_than_it_may(bus: Bus) -> None:
    arm = Arm("llm", capabilities={"llm"}, slots=2)

    @arm.run
    async def answer(task: TaskContract, ctx: Context) -> dict[str, str]:
        if task.goal == "wait":
            await asyncio.Event().wait()
        await ctx.progress(0.5, "half")
        await ctx.emit("a chunk")
        return {"said": task.goal}

    async with an_arm_stage(bus.url("orchestrator")) as stage:
        stage.url = bus.url("llm")
        async with stage.serving(arm) as stop:
            first, second = a_command(a_task(goal="work")), a_command(a_task(goal="wait"))
            await stage.dispatch("llm", first, second)
            done = await stage.result_of(first)
            await wait_until(lambda: stage.chunks)
            await stage.cancel("llm", second)
            cancelled = await stage.result_of(second)
            async with connected_to(bus.url("gateway"), name="asker") as nc:
                seen = await who_is_there(nc)
            # A permission that is missing would have closed the connection.
            beats = len(stage.beats)
            await wait_until(lambda: len(stage.beats) > beats)
            assert not stop.is_set()

    assert (done.status, cancelled.status) == ("success", "failure")
    assert [it.identity.service for it in seen] == ["arm-llm"]


@pytest.mark.parametrize("arm", ARMS)
async def test_an_arm_may_ask_and_report_only_as_itself(bus: Bus, arm: str) -> None:
    async with connected_to(bus.url("provision"), name="a") as nc:
        await provision(nc.jetstream())
    (other,) = {*ARMS} - {arm}
    forbidden = forbidden_to_publish(arm, other), forbidden_to_hear(other)
    refused: list[str] = []

    async def failed(error: Exception) -> None:
        refused.append(str(error).lower())

    url = bus.url(arm)
    nc = await nats.connect(servers(url)[0], **connect_options(arm, url) | {"error_cb": failed})
    try:
        await _try(nc, allowed_to_publish(arm), allowed_to_hear(arm))
        assert refused == []
        await _try(nc, *forbidden)
        await wait_until(lambda: len(refused) >= sum(map(len, forbidden)))
    finally:
        await nc.close()

    for what, subjects in zip(("publish", "subscription"), forbidden, strict=True):
        named = {
            one for one in subjects if any(f'{what} to "{one.lower()}"' in it for it in refused)
        }
        assert named == set(subjects)
    assert sum(map(len, forbidden)) >= 25


async def _try(nc: NATS, said: list[str], heard: list[str]) -> None:
    for subject in said:
        await nc.publish(subject, b"{}")
    for subject in heard:
        await nc.subscribe(subject)
    await nc.flush(timeout=30)


async def test_the_doctor_tries_what_accounts_may_and_may_not(bus: Bus, tmp_path: Path) -> None:
    async with connected_to(bus.url("provision"), name="a") as nc:
        await provision(nc.jetstream())
    folder = tmp_path / "accounts"
    lay_out({name: bus.url(name) for name in ("llm", "retriever", "gateway", "memory")}, folder)

    well = await rights(accounts_in(folder))
    # A service's password in the hands of an arm, and an arm's in those of another.
    ill = await rights({"llm": bus.url("gateway"), "other": bus.url("llm")})

    assert [(it.name, it.verdict) for it in well] == [
        (f"rights of {name}", Verdict.OK) for name in ("gateway", "llm", "memory", "retriever")
    ]
    assert [it.verdict for it in ill] == [Verdict.MISSING] * 2
    assert "may publish octarm.v1.evt.result.octarm-doctor" in ill[0].found
    assert "may not publish octarm.v1.evt.result.other" in ill[1].found
    async with connected_to(bus.url("provision"), name="a") as nc:
        infos = [await nc.jetstream().stream_info(spec.name) for spec in STREAMS]
    assert sum(info.state.messages for info in infos) == 0, "nothing came of it"


async def test_three_servers_find_each_other_and_keep_three_copies(tmp_path: Path) -> None:
    async with (
        a_bus("prod", tmp_path) as bus,
        connected_to(bus.url("provision"), name="a", expect_cluster="octarm") as nc,
    ):
        js = nc.jetstream(timeout=5)

        async def elected() -> bool:
            try:
                return (await js.account_info()).streams == 0
            except (nats.js.errors.APIError, nats.errors.Error, TimeoutError):
                return False

        await wait_until(elected)
        await provision(nc.jetstream(timeout=30), replicas=3)
        info = await js.stream_info(s.READY)

    assert info.cluster is not None
    assert len(info.cluster.replicas or []) == 2


@pytest.mark.parametrize("service", ["arm-registry", "scheduler"])
async def test_a_service_gets_ready_with_what_its_pod_is_told(
    bus: Bus, tmp_path: Path, service: str
) -> None:
    async with connected_to(bus.url("provision"), name="a") as nc:
        await provision(nc.jetstream())
    (pod,) = [one for one in workloads("dev") if one.name == service]
    told = dict(variables("dev", pod.containers[0]))
    secrets = tmp_path / "secrets"
    lay_out({"octarm_nats_url": bus.url(service)}, secrets)
    env = {key: value for key, value in os.environ.items() if not key.startswith("OCTARM_")}
    # The server and the collector have other names here, and only this machine may come in.
    env |= told | {"OCTARM_SECRETS": str(secrets), "OCTARM_TRACE_EXPORT": "none"}
    env["OCTARM_HTTP_HOST"] = "127.0.0.1"
    module = f"octarm.{service.replace('-', '_')}"
    recipe = ServiceRecipe(Role(service, (sys.executable, "-m", module)), env=env, logs=tmp_path)
    server = Server(recipe)
    try:
        await server.start()
        assert await server.stop(grace_s=60)
        assert await server.wait() == 0
    finally:
        await server.stop()
