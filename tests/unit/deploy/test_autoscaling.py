"""A burst, a steady stream and a long task, as KEDA would scale the llm arm by our figures."""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

import jsonschema
import pytest

from octarm.gateway.domain.tenants import Tenants
from octarm.ledger.domain.demand import Queued, Work, demand_of
from octarm.models.arms import ArmCapability
from octarm.models.scaling import ArmDemand, GetDemand
from tests.support.fleet import FakeFleet, FakeTasks
from tests.support.gateway import a_client
from tests.support.manifests.autoscaler import Autoscaler
from tests.support.manifests.cluster import K8S, Workload, of_kind, secrets, variables, workloads
from tests.support.sources import ROOT

START_S = 20
MINUTE, HOUR = 60, 3600


def spec() -> dict[str, Any]:
    (scaled,) = of_kind("prod", "ScaledObject")
    return dict(scaled["spec"])


def arm() -> Workload:
    (found,) = [one for one in workloads("prod") if one.name == "llm"]
    return found


@dataclass
class Pod:
    ready_at: int
    ends: list[int] = field(default_factory=list)
    killed_at: int | None = None


@dataclass
class Fleet:
    """Instances of the arm, and the tasks that wait for them; one call of `step` is a second."""

    slots: int
    grace_s: int
    rng: random.Random
    waiting: list[int] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    leaving: list[Pod] = field(default_factory=list)
    done: int = 0
    killed_tasks: int = 0

    def step(self, now: int, wanted: int) -> None:
        while len(self.pods) < wanted:
            self.pods.append(Pod(now + START_S))
        while len(self.pods) > wanted:
            # Kubernetes takes whichever it likes, the busiest too.
            pod = self.pods.pop(self.rng.randrange(len(self.pods)))
            pod.killed_at = now + self.grace_s
            self.leaving.append(pod)
        for pod in [*self.pods, *self.leaving]:
            self.done += sum(1 for end in pod.ends if end <= now)
            pod.ends = [end for end in pod.ends if end > now]
        for pod in self.leaving:
            if pod.killed_at is not None and now >= pod.killed_at:
                self.killed_tasks += len(pod.ends)
        self.leaving = [pod for pod in self.leaving if pod.ends]
        for pod in self.pods:
            while pod.ready_at <= now and self.waiting and len(pod.ends) < self.slots:
                pod.ends.append(now + self.waiting.pop(0))

    @property
    def running(self) -> int:
        return sum(len(pod.ends) for pod in [*self.pods, *self.leaving])


class Orchestrator(FakeTasks):
    """Says how much work there is, as the real one counts it in its ledger."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._of = fleet

    async def demand(self, arm: GetDemand) -> ArmDemand:
        queued = Queued(None, frozenset({"llm"}), len(self._of.waiting))
        return demand_of(arm, Work((queued,), {"llm": self._of.running}))


class Scaler:
    """Asks the gateway's endpoint as KEDA does: where and with which key the manifests say."""

    def __init__(self, fleet: Fleet) -> None:
        self._where = spec()["triggers"][0]["metadata"]
        self._key = key()
        around = FakeFleet(tasks=Orchestrator(fleet))
        an_arm = ArmCapability(
            arm_id="llm", name="LLM", capabilities=frozenset({"llm"}), slots=fleet.slots
        )
        around.arms.record = around.arms.record.model_copy(update={"arm": an_arm})
        tenants = Tenants.parse(secrets()["octarm-gateway"]["octarm_api_keys"])
        self._client = a_client(around, tenants=tenants, operators=operators())

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *of: object) -> None:
        await self._client.aclose()

    async def metric(self) -> float:
        answer = await self._client.get(self._where["url"], headers={"X-API-Key": self._key})
        assert answer.status_code == HTTPStatus.OK, answer.text
        return float(answer.json()[self._where["valueLocation"]])


def key() -> str:
    (authentication,) = of_kind("prod", "TriggerAuthentication")
    (reference,) = authentication["spec"]["secretTargetRef"]
    return secrets()[reference["name"]][reference["key"]]


def gateway() -> Workload:
    (found,) = [one for one in workloads("prod") if one.name == "gateway"]
    return found


def operators() -> frozenset[str]:
    said = dict(variables("prod", gateway().containers[0]))["OCTARM_OPERATORS"]
    return frozenset(said.split(","))


@dataclass
class Run:
    replicas: list[int]
    busy: list[bool]
    fleet: Fleet

    @property
    def turns(self) -> int:
        """How often growing became shrinking, or the other way round."""
        moves = [b - a for a, b in zip(self.replicas, self.replicas[1:], strict=False) if b != a]
        return sum(1 for a, b in itertools.pairwise(moves) if (a > 0) != (b > 0))


async def simulate(
    arrivals: Callable[[int, random.Random], list[int]], seconds: int, *, seed: int = 1
) -> Run:
    """Let tasks of some seconds arrive; gives what became of the replicas."""
    rng, autoscaler = random.Random(seed), Autoscaler(spec())
    fleet = Fleet(int(autoscaler.target), arm().pod["terminationGracePeriodSeconds"], rng)
    run = Run([], [], fleet)
    async with Scaler(fleet) as scaler:
        for now in range(seconds):
            fleet.waiting += arrivals(now, rng)
            run.busy.append(bool(fleet.waiting or fleet.running))
            if autoscaler.asks(now):
                autoscaler.tick(now, await scaler.metric())
            fleet.step(now, autoscaler.replicas)
            run.replicas.append(autoscaler.replicas)
    return run


def a_burst(now: int, rng: random.Random) -> list[int]:
    return [rng.randint(30, 300) for _ in range(400)] if now == 5 * MINUTE else []


@pytest.mark.parametrize("seed", range(3))
async def test_a_burst_is_met_once_and_ends_in_nothing(seed: int) -> None:
    run = await simulate(a_burst, 2 * HOUR, seed=seed)

    assert run.fleet.done == 400
    assert run.fleet.killed_tasks == 0
    assert run.replicas[: 5 * MINUTE] == [0] * (5 * MINUTE)
    assert max(run.replicas) == spec()["maxReplicaCount"]
    assert run.replicas[-1] == 0
    # Up, down, and no third time.
    assert run.turns == 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_steady_stream_does_not_flap(seed: int) -> None:
    # On average 60 slots are taken: six instances, give or take.
    def stream(now: int, rng: random.Random) -> list[int]:
        return [rng.randint(30, 90)] if now < 3 * HOUR else []

    run = await simulate(stream, 4 * HOUR, seed=seed)
    settled = run.replicas[30 * MINUTE : 3 * HOUR]

    assert run.fleet.done == 3 * HOUR
    assert run.fleet.killed_tasks == 0
    assert max(settled) - min(settled) <= 2
    changes = sum(1 for a, b in itertools.pairwise(settled) if a != b)
    assert changes <= 12


async def test_an_arm_that_works_is_never_without_instances() -> None:
    # One task of half an hour, the longest there is, and silence after it.
    run = await simulate(lambda now, _: [30 * MINUTE] if now == MINUTE else [], 2 * HOUR)
    started = next(at for at, count in enumerate(run.replicas) if count)

    assert all(
        count > 0
        for count, busy in list(zip(run.replicas, run.busy, strict=True))[started:]
        if busy
    )
    assert started <= MINUTE + spec()["pollingInterval"]
    assert (run.replicas[-1], run.fleet.done, run.fleet.killed_tasks) == (0, 1, 0)


async def test_long_work_outlives_scale_in() -> None:
    # Many short tasks, and a few of half an hour among them on whichever instance.
    def mixed(now: int, rng: random.Random) -> list[int]:
        if now != MINUTE:
            return []
        return [30 * MINUTE] * 5 + [rng.randint(10, 60) for _ in range(300)]

    run = await simulate(mixed, 3 * HOUR)

    assert (run.fleet.done, run.fleet.killed_tasks) == (305, 0)
    assert run.replicas[-1] == 0


def test_with_too_little_grace_it_would_be_seen() -> None:
    """Guard the simulation itself."""
    fleet = Fleet(10, 60, random.Random(1), waiting=[600] * 10)
    for now in range(1000):
        fleet.step(now, 1 if now < 100 else 0)

    assert fleet.killed_tasks > 0


def test_keda_is_told_only_what_its_schema_allows() -> None:
    for kind, name in (
        ("ScaledObject", "scaledobject"),
        ("TriggerAuthentication", "triggerauthentication"),
    ):
        schema = K8S / f"schemas/{name}.json"
        validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
        for doc in of_kind("prod", kind):
            validator.validate(doc)


def test_the_scaler_asks_where_the_gateway_answers_with_a_key_that_it_takes() -> None:
    metadata = spec()["triggers"][0]["metadata"]
    name = dict(variables("prod", arm().containers[0])).get("OCTARM_LLM_ARM_ID", "llm")
    there, namespace = (gateway().doc["metadata"][one] for one in ("name", "namespace"))

    assert metadata["url"] == f"http://{there}.{namespace}:8080/v1/scaling/{name}"
    assert json.loads(secrets()["octarm-gateway"]["octarm_api_keys"])[key()] in operators()


def test_one_replica_is_for_as_many_slots_as_an_instance_has() -> None:
    said = dict(variables("prod", arm().containers[0]))

    assert float(spec()["triggers"][0]["metadata"]["targetValue"]) == int(said["OCTARM_LLM_SLOTS"])


def test_what_a_scaler_chooses_no_manifest_sets() -> None:
    targets = {
        doc["spec"]["scaleTargetRef"]["name"]
        for doc in of_kind("prod", "ScaledObject", "HorizontalPodAutoscaler")
    }
    fixed = {
        one.doc["metadata"]["name"]
        for one in workloads("prod")
        if one.doc["kind"] == "Deployment" and "replicas" in one.doc["spec"]
    }

    assert targets == {"octarm-llm", "octarm-gateway", "octarm-orchestrator"}
    assert targets & fixed == set()


def test_the_schemas_say_that_they_are_our_own() -> None:
    for path in (ROOT / "deploy/k8s/schemas").glob("*.json"):
        assert "by hand" in json.loads(path.read_text())["$comment"]
