"""Every subject and stream of the bus; no other file spells one.

Grammar: `octarm.v1.<kind>.<entity>.<verb>.<ids…>`; ids come last and each is one token.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from octarm.models import (
    commands,
    episodes,
    erasure,
    events,
    identity,
    policies,
    queries,
    rejections,
    scaling,
    semantic,
    shedding,
    upkeep,
    usage,
)
from octarm.models.arms import ArmRecord, Heartbeat
from octarm.models.ids import is_token
from octarm.models.results import ExecutionResult

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

_PARAMETER: Final = re.compile(r"\{\w+\}")
PREFIX: Final = "octarm.v1"

INTAKE: Final = "OCTARM_INTAKE"
READY: Final = "OCTARM_READY"
DISPATCH: Final = "OCTARM_DISPATCH"
RESULTS: Final = "OCTARM_RESULTS"
ENDED: Final = "OCTARM_ENDED"
EPISODES: Final = "OCTARM_EPISODES"
EVENTS: Final = "OCTARM_EVENTS"
DLQ: Final = "OCTARM_DLQ"
ARMS_BUCKET: Final = "octarm_arms"
LEADERS_BUCKET: Final = "octarm_leaders"
POLICIES_BUCKET: Final = "octarm_policies"
MEMORY_BUCKET: Final = "octarm_memory"
MAX_SHARDS: Final = 64
EVENT_BUCKETS: Final = 8
# `what` of TASK_EVENTS, so that nobody has to read what is of no use to him.
MOVED: Final = "moved"
COMPLETED: Final = "completed"
STOPPED: Final = "stopped"
_STOPS: Final = frozenset({"failed", "cancelled", "timed_out", "rejected", "retried"})


class NotASubjectToken(ValueError):
    """A parameter holds something that must never stand in a subject."""


@dataclass(frozen=True, slots=True)
class Subject(Generic[M]):
    """A NATS subject, the one message type that may travel on it, the stream that keeps it."""

    template: str
    message: Any
    stream: str | None = None

    @property
    def pattern(self) -> str:
        """What a consumer filters on: each `{parameter}` becomes `*`."""
        return _PARAMETER.sub("*", self.template)

    def at(self, **parameters: str | int) -> str:
        """Give the concrete subject.

        Raises:
            NotASubjectToken: a value is not one token of `[A-Za-z0-9_-]{1,64}`.
        """
        _check(parameters)
        return self.template.format_map(parameters)

    def matching(self, **known: str | int) -> str:
        """What a consumer filters on that knows some parameters: each other one becomes `*`.

        Raises:
            NotASubjectToken: a value is not one token of `[A-Za-z0-9_-]{1,64}`.
        """
        _check(known)
        return _PARAMETER.sub(lambda name: str(known.get(name[0][1:-1], "*")), self.template)


def _check(parameters: dict[str, str | int]) -> None:
    for name, value in parameters.items():
        if not is_token(str(value)):
            raise NotASubjectToken(f"{name} cannot stand in a subject")


@dataclass(frozen=True, slots=True)
class Query(Generic[M, R]):
    """A request subject, the type that asks and the type that answers."""

    template: str
    asks: type[M]
    answers: type[R]

    def at(self, **parameters: str | int) -> str:
        """Give the concrete subject; see `Subject.at`."""
        return Subject(self.template, self.asks).at(**parameters)


SUBMIT_TASK: Final[Subject[commands.SubmitTask]] = Subject(
    f"{PREFIX}.cmd.task.submit.{{tenant}}", commands.SubmitTask, INTAKE
)
PLACE_TASKS: Final[Subject[commands.PlaceTasks]] = Subject(
    f"{PREFIX}.cmd.task.place.{{shard}}", commands.PlaceTasks, READY
)
RUN_TASKS: Final[Subject[commands.RunTasks]] = Subject(
    f"{PREFIX}.cmd.arm.run.{{arm_id}}", commands.RunTasks, DISPATCH
)
LEAD_SHARD: Final[Subject[commands.LeadShard]] = Subject(
    f"{PREFIX}.cmd.shard.lead.{{shard}}", commands.LeadShard, DISPATCH
)
RESULT: Final[Subject[ExecutionResult]] = Subject(
    f"{PREFIX}.evt.result.{{arm_id}}", ExecutionResult, RESULTS
)
RESULTS_REPORTED: Final[Subject[commands.ResultsReported]] = Subject(
    f"{PREFIX}.evt.results.{{arm_id}}", commands.ResultsReported, RESULTS
)
ATTEMPTS_UPDATED: Final[Subject[commands.AttemptsUpdated]] = Subject(
    f"{PREFIX}.evt.attempt.{{arm_id}}", commands.AttemptsUpdated, RESULTS
)
SPEND_REPORTED: Final[Subject[commands.SpendReported]] = Subject(
    f"{PREFIX}.evt.spend.{{arm_id}}", commands.SpendReported, RESULTS
)
TASK_EVENTS: Final[Subject[events.TaskEvents]] = Subject(
    f"{PREFIX}.evt.tasks.{{what}}.{{tenant}}.{{bucket}}", events.TaskEvents, EVENTS
)
TASKS_ENDED: Final[Subject[events.TasksEnded]] = Subject(
    f"{PREFIX}.evt.endings", events.TasksEnded, ENDED
)
KEEP_WRITES: Final[Subject[episodes.KeepWrites]] = Subject(
    f"{PREFIX}.cmd.episode.keep", episodes.KeepWrites, EPISODES
)
FRONT_RENEWED: Final[Subject[episodes.FrontRenewed]] = Subject(
    f"{PREFIX}.ctl.memory.front", episodes.FrontRenewed
)
ARM_EVENT: Final[Subject[events.ArmEvent]] = Subject(
    f"{PREFIX}.evt.arm.{{verb}}.{{arm_id}}", events.ArmEvent, EVENTS
)
MEMORY_EVENT: Final[Subject[events.MemoryEvent]] = Subject(
    f"{PREFIX}.evt.memory.{{verb}}.{{tenant}}.{{memory_id}}", events.MemoryEvent, EVENTS
)
POLICY_EVENT: Final[Subject[events.PolicyEvent]] = Subject(
    f"{PREFIX}.evt.policy.{{verb}}.{{policy}}", events.PolicyEvent, EVENTS
)
SHEDDING_EVENT: Final[Subject[events.SheddingEvent]] = Subject(
    f"{PREFIX}.evt.shedding.{{verb}}", events.SheddingEvent, EVENTS
)
HEARTBEAT: Final[Subject[Heartbeat]] = Subject(f"{PREFIX}.hb.{{arm_id}}.{{instance_id}}", Heartbeat)
CONTROL: Final[Subject[commands.CancelAttempt]] = Subject(
    f"{PREFIX}.ctl.{{arm_id}}", commands.CancelAttempt
)
CHUNK: Final[Subject[commands.Chunk]] = Subject(f"{PREFIX}.chunk.{{task_id}}", commands.Chunk)
DEAD_LETTER: Final = f"{PREFIX}.dlq.{{origin}}"

SUBMIT_TASKS: Final = Query(f"{PREFIX}.qry.task.submit", queries.SubmitTasks, queries.SubmitAnswers)
GET_TASK: Final = Query(f"{PREFIX}.qry.task.get", queries.GetTask, queries.TaskView)
FIND_TASKS: Final = Query(f"{PREFIX}.qry.task.find", queries.FindTasks, queries.TasksFound)
GET_STATES: Final = Query(f"{PREFIX}.qry.task.states", queries.GetStates, queries.StatesFound)
CANCEL_TASK: Final = Query(f"{PREFIX}.qry.task.cancel", queries.CancelTask, queries.Cancelled)
REJECT_TASKS: Final = Query(
    f"{PREFIX}.qry.task.reject", rejections.RejectTasks, rejections.TasksRejected
)
RECONCILE_LEDGER: Final = Query(
    f"{PREFIX}.qry.ledger.reconcile", queries.ReconcileLedger, queries.Reconciled
)
GET_DEMAND: Final = Query(f"{PREFIX}.qry.ledger.demand", scaling.GetDemand, scaling.ArmDemand)
SWITCH_SHEDDING: Final = Query(
    f"{PREFIX}.qry.ledger.shed", shedding.SwitchShedding, shedding.SheddingFound
)
GET_SHEDDING: Final = Query(
    f"{PREFIX}.qry.ledger.shedding", shedding.GetShedding, shedding.SheddingFound
)
GET_USAGE: Final = Query(f"{PREFIX}.qry.ledger.usage", usage.GetUsage, usage.UsageFound)
IDENTIFY: Final = Query(f"{PREFIX}.qry.fleet.identify", identity.Identify, identity.Identity)
REGISTER_ARM: Final = Query(f"{PREFIX}.qry.arm.register", queries.RegisterArm, ArmRecord)
DEREGISTER_ARM: Final = Query(f"{PREFIX}.qry.arm.deregister", queries.ArmKey, queries.Done)
DRAIN_ARM: Final = Query(f"{PREFIX}.qry.arm.drain", queries.ArmKey, ArmRecord)
GET_ARM: Final = Query(f"{PREFIX}.qry.arm.get", queries.ArmKey, ArmRecord)
FIND_ARMS: Final = Query(f"{PREFIX}.qry.arm.find", queries.FindArms, queries.ArmsFound)
GET_QUEUE: Final = Query(f"{PREFIX}.qry.queue.get.{{shard}}", queries.GetQueue, queries.QueueView)
WHY_WAITING: Final = Query(f"{PREFIX}.qry.queue.why.{{shard}}", queries.WhyWaiting, queries.Waiting)
GET_EPISODE: Final = Query(f"{PREFIX}.qry.memory.get", episodes.GetEpisode, episodes.EpisodeFound)
FIND_EPISODES: Final = Query(
    f"{PREFIX}.qry.memory.find", episodes.FindEpisodes, episodes.EpisodesFound
)
WRITE_EPISODES: Final = Query(
    f"{PREFIX}.qry.memory.write", episodes.WriteEpisodes, episodes.EpisodesWritten
)
FORGET_EPISODE: Final = Query(
    f"{PREFIX}.qry.memory.forget", episodes.ForgetEpisode, episodes.EpisodeForgotten
)
REMEMBER: Final = Query(f"{PREFIX}.qry.semantic.remember", semantic.Remember, semantic.Remembered)
SEARCH_MEMORY: Final = Query(
    f"{PREFIX}.qry.semantic.search", semantic.SearchMemory, semantic.MemoriesFound
)
GET_MEMORY: Final = Query(f"{PREFIX}.qry.semantic.get", semantic.GetMemory, semantic.MemoryFound)
FORGET_MEMORY: Final = Query(
    f"{PREFIX}.qry.semantic.forget", semantic.ForgetMemory, semantic.MemoryForgotten
)
LIST_MEMORIES: Final = Query(
    f"{PREFIX}.qry.semantic.list", upkeep.ListMemories, upkeep.MemoriesListed
)
COUNT_MEMORIES: Final = Query(
    f"{PREFIX}.qry.semantic.count", upkeep.CountMemories, upkeep.MemoryCounts
)
REEMBED: Final = Query(
    f"{PREFIX}.qry.semantic.reembed", semantic.ReembedMemories, semantic.Reembedding
)
ERASE_SUBJECT: Final = Query(f"{PREFIX}.qry.memory.erase", erasure.EraseSubject, erasure.Erasure)
GET_ERASURE: Final = Query(f"{PREFIX}.qry.memory.erasure", erasure.GetErasure, erasure.Erasure)
SAVE_POLICY: Final = Query(f"{PREFIX}.qry.policy.save", policies.SavePolicy, policies.PolicySaved)
VALIDATE_POLICY: Final = Query(
    f"{PREFIX}.qry.policy.validate", policies.ValidatePolicy, policies.PolicyValidated
)
LIST_POLICIES: Final = Query(
    f"{PREFIX}.qry.policy.list", policies.ListPolicies, policies.PoliciesFound
)
GET_POLICY: Final = Query(f"{PREFIX}.qry.policy.get", policies.GetPolicy, policies.PolicyVersion)
DEPLOY_POLICY: Final = Query(
    f"{PREFIX}.qry.policy.deploy", policies.DeployPolicy, policies.PolicyDeployed
)
END_SHADOW: Final = Query(
    f"{PREFIX}.qry.policy.unshadow", policies.EndShadow, policies.PolicyDeployed
)
SHADOW_DIFFERENCES: Final = Query(
    f"{PREFIX}.qry.policy.differences.{{shard}}",
    policies.GetDifferences,
    policies.DifferencesFound,
)
ROLL_BACK_POLICY: Final = Query(
    f"{PREFIX}.qry.policy.rollback", policies.RollBackPolicy, policies.PolicyDeployed
)
DELETE_POLICY: Final = Query(
    f"{PREFIX}.qry.policy.delete", policies.DeletePolicy, policies.PolicyDeleted
)
SIMULATE_POLICY: Final = Query(
    f"{PREFIX}.qry.policy.simulate", policies.SimulatePolicy, policies.PolicySimulated
)
FIND_DECISIONS: Final = Query(
    f"{PREFIX}.qry.task.decisions", policies.FindDecisions, policies.DecisionsFound
)

SUBJECTS: Final[tuple[Subject[Any], ...]] = (
    SUBMIT_TASK,
    PLACE_TASKS,
    RUN_TASKS,
    LEAD_SHARD,
    RESULT,
    RESULTS_REPORTED,
    ATTEMPTS_UPDATED,
    SPEND_REPORTED,
    TASK_EVENTS,
    TASKS_ENDED,
    KEEP_WRITES,
    FRONT_RENEWED,
    ARM_EVENT,
    MEMORY_EVENT,
    POLICY_EVENT,
    SHEDDING_EVENT,
    HEARTBEAT,
    CONTROL,
    CHUNK,
)
QUERIES: Final[tuple[Query[Any, Any], ...]] = (
    SUBMIT_TASKS,
    GET_TASK,
    FIND_TASKS,
    GET_STATES,
    CANCEL_TASK,
    REJECT_TASKS,
    RECONCILE_LEDGER,
    GET_DEMAND,
    SWITCH_SHEDDING,
    GET_SHEDDING,
    GET_USAGE,
    IDENTIFY,
    REGISTER_ARM,
    DEREGISTER_ARM,
    DRAIN_ARM,
    GET_ARM,
    FIND_ARMS,
    GET_QUEUE,
    WHY_WAITING,
    GET_EPISODE,
    FIND_EPISODES,
    WRITE_EPISODES,
    FORGET_EPISODE,
    REMEMBER,
    SEARCH_MEMORY,
    GET_MEMORY,
    FORGET_MEMORY,
    LIST_MEMORIES,
    COUNT_MEMORIES,
    REEMBED,
    ERASE_SUBJECT,
    GET_ERASURE,
    SAVE_POLICY,
    VALIDATE_POLICY,
    LIST_POLICIES,
    GET_POLICY,
    DEPLOY_POLICY,
    END_SHADOW,
    SHADOW_DIFFERENCES,
    ROLL_BACK_POLICY,
    DELETE_POLICY,
    SIMULATE_POLICY,
    FIND_DECISIONS,
)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a consumer that filters on `pattern` reads `subject`.

    `*` stands for one token, a `>` at the end for one or more of them.
    """
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted[-1:] = ["*"] * max(1, len(given) - len(wanted) + 1)
    return len(wanted) == len(given) and all(
        one == other or (one == "*" and is_token(other))
        for one, other in zip(wanted, given, strict=True)
    )


def shard_of(tenant: str, task_id: str, shards: int) -> int:
    """Give the shard (0 … shards-1) of a task: the same in every process, for ever."""
    return zlib.crc32(f"{tenant}/{task_id}".encode()) % shards


def event_bucket(task_id: str) -> int:
    """Give the bucket (0 … 7) of a task's events: the same in every process, for ever."""
    return zlib.crc32(task_id.encode()) % EVENT_BUCKETS


def what_of(verb: str) -> str:
    """Give the kind of TASK_EVENTS that an event travels with.

    `completed`; `stopped` for every other end of an attempt or a task; `moved` for the rest.
    """
    if verb in _STOPS:
        return STOPPED
    return COMPLETED if verb == COMPLETED else MOVED


def place_msg_id(task_id: str, attempt: int) -> str:
    """Give the Msg-Id under which an attempt is made ready on its own."""
    return f"p:{task_id}:{attempt}"


def result_msg_id(task_id: str, attempt: int) -> str:
    """Give the Msg-Id of a result: an attempt has one."""
    return f"r:{task_id}:{attempt}"
