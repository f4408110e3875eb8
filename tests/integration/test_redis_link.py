"""One connection to Redis with many calls under way: with a real server, and with a bad one."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as Late

from octarm.common.storage import open_redis
from octarm.common.storage.redis_link import RedisLink

pytestmark = pytest.mark.integration


@asynccontextmanager
async def linked(redis: Redis) -> AsyncGenerator[tuple[RedisLink, list[Exception]], None]:
    """Give a link, and what it is told of losses."""
    losses: list[Exception] = []
    async with redis:
        yield RedisLink(redis, lost=losses.append), losses


async def test_answers_of_all_kinds_come_in_the_order_of_the_calls(redis_url: str) -> None:
    async with linked(open_redis(redis_url, timeout_s=30)) as (link, losses):
        answers = await asyncio.gather(
            link.call("DEL", "link:h", "link:s"),
            link.call("HSET", "link:h", "a", 1, "b", b"\r\n\xff"),
            link.call("HGETALL", "link:h"),
            link.call("HGETALL", "link:none"),
            link.call("HMGET", "link:h", "b", "none"),
            link.call("SET", "link:s", "x" * 300_000),
            link.call("GET", "link:s"),
            link.call("EVAL", "return {1, {'a', false}, redis.status_reply('ok')}", 0),
        )
    pairs = answers[2]
    assert answers[1] == 2
    assert dict(zip(pairs[::2], pairs[1::2], strict=True)) == {b"a": b"1", b"b": b"\r\n\xff"}
    assert answers[3:6] == [[], [b"\r\n\xff", None], b"OK"]
    assert answers[6] == b"x" * 300_000
    assert answers[7] == [1, [b"a", None], b"ok"]
    assert losses == []


async def test_maps_of_any_texts_are_read_as_they_are(redis_url: str) -> None:
    chance = random.Random(7)
    pieces = [b"\r\n", b"$3", b"$", b"*2\r\n", b"x", b"\xff", b"", b"plain " * 50]
    maps = [
        {
            b"%d" % field: b"".join(chance.choices(pieces if ends else pieces[4:], k=4))
            for field in range(chance.randrange(1, 40))
        }
        for ends in [True, False] * 40
    ]
    async with linked(open_redis(redis_url, timeout_s=30)) as (link, losses):
        for number, some in enumerate(maps):
            parts = [part for pair in some.items() for part in pair]
            await link.call("HSET", f"link:map:{number}", *parts)
        numbers = range(len(maps))
        found = await asyncio.gather(*(link.call("HGETALL", f"link:map:{n}") for n in numbers))
    assert [dict(zip(one[::2], one[1::2], strict=True)) for one in found] == maps
    assert losses == []


async def test_a_refusal_is_the_answer_of_its_call_alone(redis_url: str) -> None:
    async with linked(open_redis(redis_url, timeout_s=30)) as (link, losses):
        refused = asyncio.ensure_future(link.call("HGETALL"))
        assert await link.call("PING") == b"PONG"
        with pytest.raises(ResponseError):
            await refused
    assert losses == []


async def test_a_lost_connection_is_told_and_replaced(redis_url: str) -> None:
    async with (
        open_redis(redis_url, timeout_s=30) as other,
        linked(open_redis(redis_url, timeout_s=30)) as (link, losses),
    ):
        me = await link.call("CLIENT", "ID")
        blocked = asyncio.ensure_future(link.call("BLPOP", "link:never", 0))
        await asyncio.sleep(0)
        await other.client_kill_filter(_id=str(me))
        with pytest.raises(Lost):
            await blocked
        assert len(losses) == 1
        assert await link.call("PING") == b"PONG"


async def test_who_does_not_wait_is_told_in_the_order_of_the_calls(redis_url: str) -> None:
    told: list[object] = []

    def spoilt(_: object) -> None:
        raise ValueError("not taken")

    async with linked(open_redis(redis_url, timeout_s=30)) as (link, losses):
        assert not link.begin(told.append, "ECHO", "no connection yet")
        await link.call("PING")
        asyncio.get_running_loop().set_exception_handler(
            lambda _, what: told.append(what["message"])
        )
        assert link.begin(told.append, "ECHO", "a")
        assert link.begin(spoilt, "ECHO", "b")
        assert link.begin(told.append, "HGETALL")
        assert await link.call("ECHO", "c") == b"c"
    assert told[:2] == [b"a", "an answer of Redis was not taken"]
    assert isinstance(told[2], ResponseError)
    assert losses == []


@asynccontextmanager
async def server_that(
    answers: Callable[[bytes], bytes],
) -> AsyncGenerator[Redis, None]:
    """Answer the greeting as Redis does, and what follows with `answers`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                greetings = data.count(b"CLIENT") + data.count(b"SELECT")
                writer.write(b"+OK\r\n" * greetings if greetings else answers(data))
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Redis(host="127.0.0.1", port=port, protocol=2, socket_timeout=0.2)
    finally:
        server.close()
        await server.wait_closed()


async def test_who_is_not_answered_in_time_waits_no_longer() -> None:
    async with server_that(lambda _: b"") as redis, linked(redis) as (link, losses):
        problems = await asyncio.gather(
            link.call("GET", "a"), link.call("GET", "b"), return_exceptions=True
        )
    assert [type(problem) for problem in problems] == [Late, Late]
    assert len(losses) == 1


async def test_who_does_not_wait_is_told_of_the_loss() -> None:
    told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    async with (
        server_that(lambda data: b"+PONG\r\n" if b"PING" in data else b"") as redis,
        linked(redis) as (link, losses),
    ):
        await link.call("PING")
        assert link.begin(told.set_result, "GET", "a")
        async with asyncio.timeout(10):
            problem = await told
        assert not link.begin(told.set_result, "GET", "a")
    assert isinstance(problem, Late)
    assert len(losses) == 1


async def test_an_answer_that_is_none_ends_the_connection() -> None:
    async with server_that(lambda _: b"!what\r\n") as redis, linked(redis) as (link, losses):
        with pytest.raises(Lost, match="not an answer"):
            await link.call("GET", "a")
    assert len(losses) == 1


async def test_news_of_the_server_are_no_answers() -> None:
    news = b">2\r\n+invalidate\r\n_\r\n"
    async with server_that(lambda _: news + b"$1\r\nx\r\n") as redis, linked(redis) as (link, _):
        assert await link.call("GET", "a") == b"x"


async def test_without_a_server_there_is_no_answer() -> None:
    async with server_that(lambda _: b"") as redis:
        pass
    async with linked(redis) as (link, _):
        with pytest.raises((RedisError, OSError)):
            await link.call("GET", "a")
