"""Who runs in a cluster: each instance tells its version, its migrations and its clock."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from nats.aio.client import Client as NATS

from octarm.cli.stack.doctor import Check, Verdict
from octarm.common.bus.identity import Seen, who_is_there

SERVICES: Final = ("arm-registry", "gateway", "memory", "orchestrator", "scheduler")
CLOCKS_DIFFER_S: Final = 1.0
ONE_VERSION: Final = "end the roll-out: docs/runbooks/rolling-upgrade.md"


async def instances(nc: NATS, heads: Mapping[str, str]) -> list[Check]:
    """Ask all; `heads` are the migrations that the database has, as far as that is known."""
    seen = await who_is_there(nc)
    if {one.identity.service for one in seen} < set(SERVICES):
        # Whoever was busy just then answers the second time.
        seen = await who_is_there(nc)
    return list(judged(seen, heads))


def judged(seen: Sequence[Seen], heads: Mapping[str, str]) -> Iterator[Check]:
    """Say of each service how many run, and what of them does not fit."""
    by_service = {
        service: list(group) for service, group in groupby(seen, lambda it: it.identity.service)
    }
    releases = {one.identity.version for one in seen}
    for service in sorted({*SERVICES, *by_service}):
        yield _service(service, by_service.get(service, []), heads, mixed=len(releases) > 1)
    if seen:
        yield _clocks(seen)


def _service(service: str, seen: Sequence[Seen], heads: Mapping[str, str], *, mixed: bool) -> Check:
    name = f"service {service}"
    if not seen:
        hint = "see its logs, and whether it runs; one of before 0.1.0 does not answer"
        return Check(name, Verdict.WARNING, "no instance answers", hint)
    releases = sorted({one.identity.version for one in seen})
    wanted = sorted({need for one in seen for need in one.identity.heads.items()})
    told = [f"{len(seen)} of {', '.join(releases)}"]
    told += [f"made for migration {head} of {schema}" for schema, head in wanted]
    found = "; ".join(told)
    if behind := [f"{s} is at {heads[s]}" for s, head in wanted if s in heads and heads[s] < head]:
        return Check(name, Verdict.MISSING, f"{found}; {', '.join(behind)}", "octarm db migrate")
    ahead = any(heads.get(schema, head) > head for schema, head in wanted)
    if mixed or ahead:
        return Check(name, Verdict.WARNING, f"{found}; others are of another", ONE_VERSION)
    return Check(name, Verdict.OK, found)


def _clocks(seen: Sequence[Seen]) -> Check:
    far = [it for it in seen if abs(it.offset_s) - it.within_s > CLOCKS_DIFFER_S]
    most = max(seen, key=lambda it: abs(it.offset_s))
    found = f"at most {most.offset_s:+.3f} s from the one here (± {most.within_s:.3f})"
    if not far:
        return Check("service clocks", Verdict.OK, found)
    named = ", ".join(f"{it.identity.service} {it.identity.instance}" for it in far[:5])
    hint = "let NTP or chrony set the clocks of their machines"
    return Check("service clocks", Verdict.WARNING, f"{found}: {named}", hint)
