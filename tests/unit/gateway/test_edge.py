"""What every request passes first: correlation, credentials, traces, problems."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from octarm.common.telemetry import metrics, tracing
from octarm.gateway.domain.tenants import Tenants
from octarm.gateway.routes.edge import Edge
from octarm.models.errors import Problem, Unavailable
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client

KEYS = Tenants({"key-of-acme": "acme"})
GOAL = {"goal": "Summarise"}
SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def code_of(response: httpx.Response) -> str:
    """The problem's code; it must be one."""
    assert response.headers["content-type"] == "application/problem+json"
    return Problem.model_validate(response.json()).code


class TestCorrelation:
    async def test_an_accepted_id_is_echoed_and_travels_with_the_task(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            response = await client.post(
                "/v1/tasks", json=GOAL, headers={"X-Correlation-Id": "order-17"}
            )

        assert response.headers.get_list("x-correlation-id") == ["order-17"]
        assert fake.tasks.submitted[0].correlation_id == "order-17"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a_b"])
    async def test_another_is_made_for_one_that_is_not(self, given: str) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.get("/healthz", headers={"X-Correlation-Id": given})

        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-correlation-id"])


class TestTrace:
    async def test_a_valid_traceparent_goes_down_with_the_task(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            await client.post("/v1/tasks", json=GOAL, headers={"traceparent": SAMPLED})

        assert fake.tasks.submitted[0].traceparent == SAMPLED

    @pytest.mark.parametrize(
        "given", ["", "nonsense", SAMPLED.upper(), SAMPLED + "x", "00-" + "0" * 32 + SAMPLED[35:]]
    )
    async def test_a_root_is_made_for_anything_else(self, given: str) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            await client.post("/v1/tasks", json=GOAL, headers={"traceparent": given})

        made = fake.tasks.submitted[0].traceparent
        assert tracing.valid(made)
        assert made[3:35] != SAMPLED[3:35]


class TestCredentials:
    @pytest.mark.parametrize(
        "headers", [{"Authorization": "Bearer key-of-acme"}, {"X-API-Key": "key-of-acme"}]
    )
    async def test_a_key_gives_the_tenant(self, headers: dict[str, str]) -> None:
        fake = FakeFleet()
        async with a_client(fake, tenants=KEYS) as client:
            response = await client.post("/v1/tasks", json=GOAL, headers=headers)

        assert response.status_code == 202
        assert {tenant for tenant, _ in fake.tasks.views} == {"acme"}

    @pytest.mark.parametrize(
        "headers", [{}, {"X-API-Key": "key-of-acmE"}, {"Authorization": "Basic key-of-acme"}]
    )
    async def test_nothing_behind_the_api_is_reached_without_one(
        self, headers: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake = FakeFleet()
        async with a_client(fake, tenants=KEYS) as client:
            response = await client.post("/v1/tasks", json=GOAL, headers=headers)

        assert response.status_code == 401
        assert code_of(response) == "INVALID_TOKEN"
        assert response.headers["www-authenticate"] == "Bearer"
        assert fake.tasks.requests == []
        assert "key-of" not in response.text + "".join(capsys.readouterr())

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    async def test_probes_need_none(self, path: str) -> None:
        async with a_client(FakeFleet(), tenants=KEYS) as client:
            assert (await client.get(path)).status_code == 200

    async def test_a_tenant_sees_no_other_tenants_task(self) -> None:
        fake = FakeFleet()
        foreign = fake.tasks.add("zeta")
        async with a_client(fake, tenants=KEYS, ping_s=0.01) as client:
            client.headers["X-API-Key"] = "key-of-acme"
            responses = [
                await client.get(f"/v1/tasks/{foreign}"),
                await client.get(f"/v1/tasks/{foreign}/result"),
                await client.get(f"/v1/tasks/{foreign}/events"),
                await client.get(f"/v1/tasks/{foreign}/explain"),
                await client.post(f"/v1/tasks/{foreign}/cancel"),
                await client.delete(f"/v1/tasks/{foreign}"),
            ]

        assert {response.status_code for response in responses} == {404}
        assert {code_of(response) for response in responses} == {"TASK_NOT_FOUND"}
        assert fake.tasks.cancelled == []

    async def test_a_tenant_sees_only_itself_in_the_queue(self) -> None:
        async with a_client(FakeFleet(), tenants=KEYS) as client:
            own = await client.get("/v1/queue", headers={"X-API-Key": "key-of-acme"})
        async with a_client(FakeFleet()) as client:
            open_to_all = await client.get("/v1/queue")

        assert own.json()["by_tenant"] == {"acme": 1}
        assert open_to_all.json()["by_tenant"] == {"default": 1, "acme": 1}


class TestProblems:
    async def test_an_unknown_path_is_a_problem(self) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.get("/v1/nothing")

        assert (response.status_code, code_of(response)) == (404, "ROUTE_NOT_FOUND")

    async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(self) -> None:
        async with a_client(FakeFleet()) as client:
            response = await client.put("/v1/arms")

        assert (response.status_code, code_of(response)) == (405, "METHOD_NOT_ALLOWED")
        assert "GET" in response.headers["allow"]

    async def test_a_bug_of_ours_is_a_problem_that_tells_nothing(self) -> None:
        fake = FakeFleet()

        async def broken(*_: object) -> None:
            raise ZeroDivisionError("secret detail")

        fake.tasks.get = broken  # type: ignore[assignment, method-assign]
        async with a_client(fake) as client:
            response = await client.get(f"/v1/tasks/{fake.tasks.add()}")

        assert (response.status_code, code_of(response)) == (500, "INTERNAL")
        assert "secret detail" not in response.text

    async def test_a_client_that_hangs_up_while_sending_harms_nobody(self) -> None:
        fake = FakeFleet()

        async def half() -> AsyncGenerator[bytes, None]:
            yield b'{"goal":'

        async with a_client(fake) as client:
            response = await client.post("/v1/tasks", content=half())

        assert response.status_code == 400
        assert fake.tasks.requests == []


class TestConnection:
    async def test_a_server_that_comes_back_is_waited_for(self) -> None:
        answers = iter([False, False, True])
        async with a_client(FakeFleet(), connected=lambda: next(answers)) as client:
            assert (await client.get("/v1/arms")).status_code == 200

    async def test_one_that_is_gone_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("octarm.gateway.routes.edge.RECONNECT_S", 0.01)
        fake = FakeFleet()
        async with a_client(fake, connected=lambda: False) as client:
            response = await client.post("/v1/tasks", json=GOAL)
            probe = await client.get("/healthz")

        assert (response.status_code, code_of(response)) == (503, "SERVICE_UNAVAILABLE")
        assert response.headers["retry-after"] == "1"
        assert fake.tasks.requests == []
        assert probe.status_code == 200

    async def test_a_body_that_does_not_arrive_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.gateway.routes.bodies.ARRIVAL_S", 0.01)

        async def stalled() -> AsyncGenerator[bytes, None]:
            yield b'{"goal":'
            await asyncio.Event().wait()

        async with a_client(FakeFleet()) as client:
            response = await client.post("/v1/tasks", content=stalled())

        assert (response.status_code, code_of(response)) == (408, "REQUEST_TIMEOUT")
        assert response.headers["connection"] == "close"


class TestOtherScopes:
    async def test_pass_untouched(self) -> None:
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["type"])

        async def never(*_: object) -> Message:
            raise AssertionError

        await Edge(app, KEYS, lambda: True)({"type": "lifespan"}, never, never)  # type: ignore[arg-type]

        assert seen == ["lifespan"]


class TestHealth:
    async def test_is_not_alive_once_the_bus_is_gone_for_good(self) -> None:
        async with a_client(FakeFleet(), live=lambda: False) as client:
            response = await client.get("/healthz")

        assert (response.status_code, code_of(response)) == (503, "SERVICE_UNAVAILABLE")

    async def test_readiness_names_what_is_missing(self) -> None:
        async def away() -> None:
            raise Unavailable("nobody answers")

        async def there() -> None:
            return None

        async with a_client(FakeFleet(), ready={"orchestrator": away, "nats": there}) as client:
            response = await client.get("/readyz")

        assert response.status_code == 503
        assert "orchestrator: nobody answers" in response.json()["detail"]
        assert "nats" not in response.json()["detail"]
        assert response.headers["retry-after"] == "1"

    async def test_requests_are_counted_by_route_not_by_path(self) -> None:
        fake = FakeFleet()
        async with a_client(fake) as client:
            await client.get(f"/v1/tasks/{fake.tasks.add()}")
            text = (await client.get("/metrics")).text

        assert 'route="/v1/tasks/{task_id}",status="200"' in text
        assert "tsk_" not in text
        assert metrics.exposition()

    async def test_a_stream_takes_as_long_as_its_answer_takes_to_begin(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now_s = 100.0
        clock = SimpleNamespace(perf_counter=lambda: now_s, monotonic=time.monotonic)
        monkeypatch.setattr("octarm.gateway.routes.edge.time", clock)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal now_s
            now_s += 0.5
            await send({"type": "http.response.start", "status": 200, "headers": []})
            now_s += 60

        async def drop(_: Message) -> None:
            return None

        async def never() -> Message:
            raise AssertionError

        def seconds() -> float:
            name = "octarm_gateway_request_seconds_sum"
            return metrics.registry.get_sample_value(name, {"route": "none"}) or 0.0

        before = seconds()
        scope = {"type": "http", "path": "/", "headers": []}
        await Edge(app, KEYS, lambda: True)(scope, never, drop)

        assert seconds() - before == pytest.approx(0.5)
