"""What is wrong with a cluster: versions, clocks, streams' settings, consumers' lag, rights."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from octarm.cli.instances import CLOCKS_DIFFER_S, instances
from octarm.cli.rights import account_of, rights
from octarm.cli.stack.doctor import Check, Verdict
from octarm.common.bus.connection import connected_to
from octarm.common.bus.topology import BUCKETS, STREAMS, StreamSpec, consumers, stream_config
from octarm.models.errors import OctarmError

PROVISION: Final = "octarm bus provision (with --replicas and --shards as you have them)"
MIGRATE: Final = "octarm db migrate"
FULL: Final = 0.8
LAG: Final = 10_000
STREAM_SETTINGS: Final = (
    *("subjects", "retention", "storage", "discard", "max_bytes", "max_age"),
    *("duplicate_window", "allow_rollup_hdrs", "deny_delete"),
)
CONSUMER_SETTINGS: Final = (
    *("filter_subjects", "ack_policy", "ack_wait"),
    *("max_deliver", "max_ack_pending"),
)
OLDEST_POSTGRES: Final = 14
SCHEMAS: Final = ("ledger", "memory")
MIGRATION: Final = "migration "
_RIGHTS: Final = """
select coalesce(string_agg(n.nspname || '.' || c.relname, ', '), '')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %s and c.relkind in ('r', 'p')
    and not has_table_privilege(c.oid, 'select, insert, update, delete')
"""

_SHED: Final = """
select format('%s for %s, put by %s at %s: %s', mode, coalesce(tenant, 'all tenants'),
    switched_by, date_trunc('second', switched_at), reason)
from (select distinct on (tenant) * from ledger.shedding order by tenant, id desc) last
where mode <> 'open' and (until is null or until > now())
order by tenant nulls first
"""


async def examine_cluster(
    *, postgres_url: str, nats_url: str, shards: int, accounts: Mapping[str, str] | None = None
) -> list[Check]:
    """Look at everything; nothing is changed. What is not known to us is not looked at.

    `accounts` are those of NATS, with their URLs, whose rights are tried besides our own's.
    """
    found: list[Check] = []
    if postgres_url:
        found += await _guarded("postgres", lambda: asyncio.to_thread(_postgres, postgres_url))
    if nats_url:
        found += await _guarded("nats", lambda: _nats(nats_url, shards, _heads(found)))
    own = account_of(nats_url)
    found += await rights({**({own: nats_url} if own else {}), **(accounts or {})})
    return found


async def _guarded(name: str, look: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    try:
        return await look()
    except OctarmError as error:
        return [Check(name, Verdict.MISSING, error.message, error.recovery_hint)]
    except (psycopg.Error, OSError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return [Check(name, Verdict.MISSING, reason, "check its URL, and whether it runs")]


def _postgres(url: str) -> list[Check]:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        version = connection.info.server_version
        old = version // 10_000 < OLDEST_POSTGRES
        return [
            Check(
                "postgres version",
                Verdict.WARNING if old else Verdict.OK,
                f"{version // 10_000}.{version % 10_000}",
                f"upgrade to {OLDEST_POSTGRES} or newer",
            ),
            _clock(connection),
            *(_schema(connection, schema) for schema in SCHEMAS),
            *_shedding(connection),
        ]


def _clock(connection: psycopg.Connection[Any]) -> Check:
    """Compare Postgres' clock, which judges leases and deadlines, with the one here."""
    before = datetime.now(UTC)
    row = connection.execute("select clock_timestamp()").fetchone()
    after = datetime.now(UTC)
    assert row is not None
    half = (after - before) / 2
    # What the way there and back took may be a difference, or none.
    offset_s = (row[0] - before - half).total_seconds()
    differs = abs(offset_s) - half.total_seconds() > CLOCKS_DIFFER_S
    found = f"{offset_s:+.3f} s from the one here (± {half.total_seconds():.3f})"
    verdict = Verdict.WARNING if differs else Verdict.OK
    return Check("postgres clock", verdict, found, "let NTP or chrony set both clocks")


def _shedding(connection: psycopg.Connection[Any]) -> list[Check]:
    """Say which load-shedding switches are on; they may have been forgotten."""
    known = connection.execute("select to_regclass('ledger.shedding')").fetchone()
    if known is None or known[0] is None:
        return []
    name, mend = "load shedding", "octarm shed set open (with --tenant for a tenant's)"
    rows = connection.execute(_SHED).fetchall()
    found = "; ".join(" ".join(row[0].split()) for row in rows)
    return [Check(name, Verdict.WARNING if rows else Verdict.OK, found or "open", mend)]


def _heads(found: list[Check]) -> dict[str, str]:
    """Give the migrations that the database has."""
    return {
        check.name.removeprefix("schema "): check.found.removeprefix(MIGRATION)
        for check in found
        if check.found.startswith(MIGRATION)
    }


def _schema(connection: psycopg.Connection[Any], schema: str) -> Check:
    name, table = f"schema {schema}", f"{schema}.{schema}_version"
    known = connection.execute("select to_regclass(%s)", [table]).fetchone()
    if known is None or known[0] is None:
        return Check(name, Verdict.MISSING, "has no tables", MIGRATE)
    lacking = connection.execute(_RIGHTS, [schema]).fetchone()
    if lacking is not None and lacking[0]:
        hint = "grant select, insert, update, delete on them to this role"
        return Check(name, Verdict.MISSING, f"this role may not use {lacking[0][:300]}", hint)
    head = connection.execute(f"select version_num from {table}").fetchone()  # noqa: S608 - ours
    return Check(name, Verdict.OK, f"{MIGRATION}{head[0] if head else 'unknown'}")


async def _nats(url: str, shards: int, heads: dict[str, str]) -> list[Check]:
    async with connected_to(url, name="octarm-doctor") as nc:
        js = nc.jetstream(timeout=5)
        version = str(nc.connected_server_version)
        checks = [Check("nats version", Verdict.OK, version), *await instances(nc, heads)]
        for spec in STREAMS:
            checks.append(await _stream(js, spec))
        for stream, config in consumers(shards):
            checks.append(await _consumer(js, stream, config))
        for bucket, _ in BUCKETS:
            checks.append(await _bucket(js, bucket))
        return checks


async def _stream(js: JetStreamContext, spec: StreamSpec) -> Check:
    name = f"stream {spec.name}"
    try:
        info = await js.stream_info(spec.name)
    except NotFoundError:
        return Check(name, Verdict.MISSING, "is not there", PROVISION)
    wanted = stream_config(spec, replicas=info.config.num_replicas or 1)
    if differences := list(_differences(info.config, wanted, STREAM_SETTINGS)):
        return Check(name, Verdict.WARNING, "; ".join(differences), PROVISION)
    return _filling(name, spec, info)


def _filling(name: str, spec: StreamSpec, info: StreamInfo) -> Check:
    share = info.state.bytes / spec.max_bytes
    found = (
        f"{info.state.messages:,} messages, {share:.0%} full, {info.config.num_replicas} replicas"
    )
    if share > FULL and not spec.max_age_s:
        return Check(name, Verdict.WARNING, found, "see which consumer lags; past 100 % it refuses")
    peers = (info.cluster.replicas if info.cluster else None) or []
    if away := [str(peer.name) for peer in peers if not peer.current or peer.offline]:
        found += f"; not current: {', '.join(away)}"
        return Check(name, Verdict.WARNING, found, "see whether these NATS servers run")
    return Check(name, Verdict.OK, found)


async def _consumer(js: JetStreamContext, stream: str, wanted: ConsumerConfig) -> Check:
    name = f"consumer {wanted.durable_name}"
    try:
        info = await js.consumer_info(stream, str(wanted.durable_name))
    except NotFoundError:
        return Check(name, Verdict.MISSING, f"is not on {stream}", PROVISION)
    if differences := list(_differences(_unfolded(info), wanted, CONSUMER_SETTINGS)):
        return Check(name, Verdict.WARNING, "; ".join(differences), PROVISION)
    lag = info.num_pending or 0
    found = f"lags {lag:,} messages, {info.num_ack_pending or 0:,} in hand"
    verdict = Verdict.WARNING if lag > LAG else Verdict.OK
    return Check(name, verdict, found, "see the logs of its service, and whether it has replicas")


def _unfolded(info: ConsumerInfo) -> ConsumerConfig:
    """Give the settings as they are asked for: one filter may come back on its own."""
    config = info.config
    if config.filter_subject and not config.filter_subjects:
        return config.evolve(filter_subjects=[config.filter_subject])
    return config


async def _bucket(js: JetStreamContext, bucket: str) -> Check:
    try:
        info = await js.stream_info(f"KV_{bucket}")
    except NotFoundError:
        return Check(f"bucket {bucket}", Verdict.MISSING, "is not there", PROVISION)
    return Check(f"bucket {bucket}", Verdict.OK, f"{info.state.messages:,} keys")


def _differences(
    found: StreamConfig | ConsumerConfig,
    wanted: StreamConfig | ConsumerConfig,
    names: tuple[str, ...],
) -> Iterator[str]:
    """Say which settings are not as they are provisioned."""
    for name in names:
        is_there, should = getattr(found, name), getattr(wanted, name)
        if (is_there or None) != (should or None):
            yield f"{name} is {_plain(is_there)}, not {_plain(should)}"


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))
