"""Ask the orchestrator: submit, show, list and cancel tasks."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from nats.aio.client import Client

from octarm.common.bus.requests import ask, ask_raw, read_reply
from octarm.models import subjects
from octarm.models.commands import MAX_SUBMISSIONS, SubmitTask
from octarm.models.errors import OctarmError, PayloadTooLarge, Unavailable
from octarm.models.policies import DecisionsFound, FindDecisions
from octarm.models.queries import (
    Cancelled,
    CancelTask,
    FindTasks,
    GetStates,
    GetTask,
    Outcome,
    Reconciled,
    ReconcileLedger,
    SubmitAnswer,
    TasksFound,
    TaskView,
)
from octarm.models.rejections import Rejection, RejectTasks
from octarm.models.scaling import ArmDemand, GetDemand
from octarm.models.shedding import GetShedding, SheddingFound, Switching, SwitchShedding
from octarm.models.usage import GetUsage, UsageFound

MAX_STATES: Final = 1000
# What a large request may take longer than one of a single task, for each of its tasks.
MORE_S: Final = 0.003
# A page of decisions is read from two large tables.
PAGE_S: Final = 10.0
# Room for the tenant, the brackets and the headers of a request.
ENVELOPE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class OrchestratorClient:
    """Requests to the orchestrator over a connection that somebody else closes.

    Each method raises the `OctarmError` that was answered, or `Unavailable` when nobody
    answers within `timeout_s` seconds – the request may have been carried out all the same.
    """

    nc: Client
    timeout_s: float = 5.0

    async def submit_many(self, tenant: str, tasks: Sequence[SubmitTask]) -> list[SubmitAnswer]:
        """Submit tasks; one answer for each, in order.

        Split into requests of at most 1,000 tasks that fit the server's payload limit. A
        request that fails as a whole gives its problem to each task of it, so this raises no
        `OctarmError`. Idempotent for tasks with an idempotency key or a task id.
        """
        answers: list[SubmitAnswer] = []
        for group in _groups(tasks, self.nc.max_payload - ENVELOPE_BYTES):
            if isinstance(group, SubmitAnswer):
                answers.append(group)
            else:
                answers.extend(await self._submit(tenant, group))
        return answers

    async def _submit(self, tenant: str, group: list[bytes]) -> list[SubmitAnswer]:
        """Send a `SubmitTasks` of submissions that are written already."""
        query = subjects.SUBMIT_TASKS
        body = b'{"tenant":%b,"submissions":[%b]}' % (json.dumps(tenant).encode(), b",".join(group))
        timeout_s = self.timeout_s + MORE_S * len(group)
        try:
            reply = await ask_raw(self.nc, query.at(), body, timeout_s=timeout_s)
            return read_reply(reply, query.answers).answers
        except OctarmError as error:
            return [SubmitAnswer(problem=error.problem())] * len(group)

    async def get(self, tenant: str, task_id: str) -> TaskView:
        """Show one task.

        Raises:
            NotFound: the tenant has no such task.
        """
        message = GetTask(tenant=tenant, task_id=task_id)
        return await ask(self.nc, subjects.GET_TASK, message, timeout_s=self.timeout_s)

    async def find(self, query: FindTasks) -> TasksFound:
        """List a page of a tenant's tasks, newest first."""
        return await ask(self.nc, subjects.FIND_TASKS, query, timeout_s=self.timeout_s)

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Give the outcome of each task that exists, by id; 1,000 ids a request."""
        outcomes: dict[str, Outcome] = {}
        for start in range(0, len(task_ids), MAX_STATES):
            some = list(task_ids[start : start + MAX_STATES])
            found = await ask(
                self.nc,
                subjects.GET_STATES,
                GetStates(tenant=tenant, task_ids=some),
                timeout_s=self.timeout_s,
            )
            outcomes.update((outcome.task_id, outcome) for outcome in found.outcomes)
        return outcomes

    async def cancel(self, tenant: str, task_id: str, reason: str = "") -> Cancelled:
        """Call a task off and say where it stands now; idempotent.

        Raises:
            NotFound: the tenant has no such task.
        """
        message = CancelTask(tenant=tenant, task_id=task_id, reason=reason)
        return await ask(self.nc, subjects.CANCEL_TASK, message, timeout_s=self.timeout_s)

    async def reject(self, tasks: Sequence[Rejection]) -> list[str]:
        """End up to 256 queued tasks; gives those that this has ended. Idempotent."""
        message = RejectTasks(tasks=list(tasks))
        reply = await ask(self.nc, subjects.REJECT_TASKS, message, timeout_s=self.timeout_s)
        return reply.task_ids

    async def decisions(self, wanted: FindDecisions) -> tuple[list[bytes], str | None]:
        """Give a page of `DecisionRecord`s, each as its JSON, and where the next page begins."""
        subject = subjects.FIND_DECISIONS.at()
        body = wanted.model_dump_json().encode()
        reply = await ask_raw(self.nc, subject, body, timeout_s=self.timeout_s + PAGE_S)
        try:
            page = _page(reply).ok
        except msgspec.MsgspecError:
            page = None
        if page is None:
            read_reply(reply, DecisionsFound)
            raise Unavailable("the ledger's answer is not understood")
        return [bytes(it) for it in page.decisions], page.after

    async def demand(self, arm: GetDemand) -> ArmDemand:
        """Say how much work there is for an arm; a few seconds old at most."""
        return await ask(self.nc, subjects.GET_DEMAND, arm, timeout_s=self.timeout_s)

    async def shedding(self) -> SheddingFound:
        """Say what operators shed now, and how the switches were put."""
        query = subjects.GET_SHEDDING
        return await ask(self.nc, query, GetShedding(), timeout_s=self.timeout_s)

    async def shed(self, wanted: Switching, by: str) -> SheddingFound:
        """Put the load-shedding switch; every orchestrator follows within about a second."""
        message = SwitchShedding(**wanted.model_dump(), by=by)
        return await ask(self.nc, subjects.SWITCH_SHEDDING, message, timeout_s=self.timeout_s)

    async def usage(self, tenants: Sequence[str]) -> UsageFound:
        """Say what up to 256 tenants have used today, as it was some seconds ago, and may use."""
        message = GetUsage(tenants=list(tenants))
        return await ask(self.nc, subjects.GET_USAGE, message, timeout_s=self.timeout_s)

    async def reconcile(self, *, assume_empty: bool = False) -> Reconciled:
        """Look for what nobody owns and mend it, now; the bus's lost READY messages too.

        Takes as long as the ledger has queued tasks: give `timeout_s` accordingly. Idempotent.
        """
        message = ReconcileLedger(assume_empty=assume_empty)
        return await ask(self.nc, subjects.RECONCILE_LEDGER, message, timeout_s=self.timeout_s)


class _Page(msgspec.Struct):
    decisions: list[msgspec.Raw]
    after: str | None = None


class _Paged(msgspec.Struct):
    ok: _Page | None = None


# There may be tens of thousands, which nobody but the simulator reads.
_page = msgspec.json.Decoder(_Paged).decode


def _groups(tasks: Sequence[SubmitTask], max_bytes: int) -> Iterator[list[bytes] | SubmitAnswer]:
    """Write `tasks` and cut them into requests, in order; one that fits none is answered here."""
    group: list[bytes] = []
    total = 0
    for task in tasks:
        body = task.model_dump_json(exclude_defaults=True).encode()
        size = len(body) + 1
        if group and (total + size > max_bytes or len(group) == MAX_SUBMISSIONS):
            yield group
            group, total = [], 0
        if size > max_bytes:
            refusal = PayloadTooLarge(f"the task has {size} bytes, the bus takes {max_bytes}")
            yield SubmitAnswer(problem=refusal.problem())
        else:
            group.append(body)
            total += size
    if group:
        yield group
