"""Register, deregister, drain, show and find arms; any replica may answer."""

from dataclasses import dataclass
from typing import Final

from octarm.arm_registry.domain.fleet import Stored
from octarm.arm_registry.domain.screening import may_change, owner_of, screen
from octarm.arm_registry.usecases.announcing import revision_event, status_event
from octarm.arm_registry.usecases.ports import Announcer, ChangedMeanwhile, Consumers, Directory
from octarm.common.clock import Clock
from octarm.common.failpoints import failpoint
from octarm.models import queries
from octarm.models.arms import ArmRecord
from octarm.models.errors import Conflict, Forbidden, NotFound, Unavailable

MAX_ATTEMPTS: Final = 8
MAX_REPLY_BYTES: Final = 900 * 1024


@dataclass(frozen=True, slots=True)
class RegisterArm:
    """Make an arm known, or update what it declares; idempotent.

    The arm's consumer exists before its entry does, so that whoever sees the arm can send
    it work. Registering an arm that is offline ends a drain that was asked for.
    """

    directory: Directory
    consumers: Consumers
    announcer: Announcer
    clock: Clock

    async def __call__(self, command: queries.RegisterArm) -> ArmRecord:
        """
        Raises:
            InvalidRequest: an unsafe URL, or a schema that is none.
            Conflict: the arm belongs to another key (ALREADY_EXISTS).
            Unavailable: the bus does not answer.
        """
        screen(command.arm)
        for _ in range(MAX_ATTEMPTS):
            stored = await self.directory.get(command.arm.arm_id)
            if stored is not None and not may_change(stored.record.owner, command.key):
                raise Conflict(
                    f"arm {command.arm.arm_id} belongs to another key",
                    "Choose another arm_id, or register with the key that owns this one.",
                )
            await self.consumers.ensure(command.arm.arm_id)
            try:
                return await self._write(stored, command)
            except ChangedMeanwhile:
                continue
        raise _contended(command.arm.arm_id)

    async def _write(self, stored: Stored | None, command: queries.RegisterArm) -> ArmRecord:
        now = self.clock.now()
        if stored is None:
            record = ArmRecord(
                arm=command.arm,
                status="offline",
                reason="no instance has beaten yet",
                registered_at=now,
                changed_at=now,
                owner=owner_of(command.key),
            )
            written = await self.directory.create(record)
        else:
            before = stored.record
            update = {
                "arm": command.arm,
                "owner": before.owner or owner_of(command.key),
                "drain_requested": before.drain_requested and before.status != "offline",
            }
            record = before.model_copy(update=update)
            if record == before:
                return before
            written = await self.directory.replace(stored, record)
        failpoint("registration_before_reply")
        self.announcer.announce(revision_event(written.record, "registered", written.revision, now))
        return written.record


@dataclass(frozen=True, slots=True)
class DrainArm:
    """Ask that an arm gets no more work; what it runs is finished. Idempotent."""

    directory: Directory
    announcer: Announcer
    clock: Clock

    async def __call__(self, command: queries.ArmKey) -> ArmRecord:
        """
        Raises:
            NotFound: no such arm.
            Forbidden: it belongs to another key.
            Unavailable: the bus does not answer.
        """

        async def drain(stored: Stored) -> ArmRecord:
            record = stored.record
            if record.drain_requested:
                return record
            update: dict[str, object] = {"drain_requested": True}
            flips = record.status in ("online", "degraded")
            if flips:
                update |= {
                    "status": "draining",
                    "reason": "asked to drain",
                    "changed_at": self.clock.now(),
                }
            written = await self.directory.replace(stored, record.model_copy(update=update))
            if flips:
                self.announcer.announce(status_event(written.record))
            return written.record

        for _ in range(MAX_ATTEMPTS):
            try:
                return await drain(await _owned(self.directory, command))
            except ChangedMeanwhile:
                continue
        raise _contended(command.arm_id)


@dataclass(frozen=True, slots=True)
class DeregisterArm:
    """Forget an arm; its beats count for nothing until it registers again. Idempotent.

    Its consumer stays: work that was sent is not lost should it come back.
    """

    directory: Directory
    announcer: Announcer
    clock: Clock

    async def __call__(self, command: queries.ArmKey) -> queries.Done:
        """
        Raises:
            Forbidden: it belongs to another key.
            Unavailable: the bus does not answer.
        """
        for _ in range(MAX_ATTEMPTS):
            try:
                stored = await _owned(self.directory, command)
                await self.directory.remove(stored)
            except ChangedMeanwhile:
                continue
            except NotFound:
                return queries.Done(changed=False)
            event = revision_event(stored.record, "deregistered", stored.revision, self.clock.now())
            self.announcer.announce(event)
            return queries.Done(changed=True)
        raise _contended(command.arm_id)


@dataclass(frozen=True, slots=True)
class GetArm:
    """Show one arm."""

    directory: Directory

    async def __call__(self, query: queries.ArmKey) -> ArmRecord:
        """
        Raises:
            NotFound: no such arm.
        """
        return (await _known(self.directory, query.arm_id)).record


@dataclass(frozen=True, slots=True)
class FindArms:
    """Find the arms that have every one of the given tags, by id.

    An answer too large for one message leaves out the schemas, then the instances.
    """

    directory: Directory

    async def __call__(self, query: queries.FindArms) -> queries.ArmsFound:
        """
        Raises:
            Unavailable: the bus does not answer.
        """
        needs = frozenset(query.capabilities)
        arms = [
            stored.record
            for _, stored in sorted((await self.directory.all()).items())
            if needs <= stored.record.arm.capabilities
        ]
        found = queries.ArmsFound(arms=arms)
        for slimmer in (_without_schemas, _without_instances):
            if len(found.model_dump_json()) <= MAX_REPLY_BYTES:
                break
            found = queries.ArmsFound(arms=[slimmer(record) for record in found.arms])
        return found


def _without_schemas(record: ArmRecord) -> ArmRecord:
    arm = record.arm.model_copy(update={"input_schema": {}, "output_schema": {}})
    return record.model_copy(update={"arm": arm})


def _without_instances(record: ArmRecord) -> ArmRecord:
    return record.model_copy(update={"instances": []})


async def _known(directory: Directory, arm_id: str) -> Stored:
    stored = await directory.get(arm_id)
    if stored is None:
        raise NotFound(
            f"no arm {arm_id}", "List the arms; an arm registers when it starts.", "ARM_NOT_FOUND"
        )
    return stored


async def _owned(directory: Directory, command: queries.ArmKey) -> Stored:
    stored = await _known(directory, command.arm_id)
    if not may_change(stored.record.owner, command.key):
        raise Forbidden(
            f"arm {command.arm_id} belongs to another key", "Use the key that registered it."
        )
    return stored


def _contended(arm_id: str) -> Unavailable:
    return Unavailable(f"arm {arm_id} is being changed by others", retry_after_s=1)
