"""The child process: reads requests from one socket, answers them, and can do nothing else.

Started as `python -m octarm.policies.sandbox.child <fd> <limits as JSON>`. It ends when the host
closes the socket. Whatever the language runtime does when it runs out of memory ends the
process; the host sees that and starts another.
"""

import gc
import socket
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from octarm.policies.context import Context
from octarm.policies.language.evaluator import Evaluator, ScriptError
from octarm.policies.sandbox.frames import (
    HEADER,
    MAX_POLICIES,
    REQUESTS,
    Answer,
    Check,
    Decide,
    Failed,
    Found,
    Load,
    Loaded,
    Request,
    Returned,
    frame,
    header,
)
from octarm.policies.sandbox.limits import MIB, Limits, Size, allow_cpu, confine

if TYPE_CHECKING:
    import starlark

MAX_TRACEBACK = 8_192


class Budget:
    """Processor time that one call may use."""

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds
        self.exceeded = False
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._started = time.thread_time()
        self._until = self._started + self._milliseconds / 1000

    def spent(self) -> bool:
        """Whether it is used up; asked again and again while a script runs."""
        self.exceeded = time.thread_time() > self._until
        return self.exceeded

    @property
    def used_ms(self) -> float:
        """Milliseconds since the call began."""
        return (time.thread_time() - self._started) * 1000


class Child:
    """Answers requests one after the other."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._evaluator = Evaluator(
            max_depth=limits.call_depth, max_print_bytes=limits.max_print_bytes
        )
        self._policies: dict[str, starlark.FrozenModule] = {}

    def warm_up(self) -> None:
        """Do everything once: what it reads from files must be in memory before they are shut."""
        source = "def schedule(ctx):\n    return []\n"
        context = msgspec.json.encode(Context(0)).decode()
        for request in (Check(source), Load("", source), Decide("", context), Load("", "?")):
            self.answer(request)
        self._policies.clear()

    def answer(self, request: Request) -> Answer:
        """Do what is asked; a script that fails is an answer too."""
        limit = self._limits.call_ms if isinstance(request, Decide) else self._limits.load_ms
        budget = Budget(limit)
        try:
            match request:
                case Load():
                    return self._load(request, budget)
                case Check():
                    found = self._evaluator.findings(request.source)
                    return Found(tuple((it.line, it.message, it.certain) for it in found))
                case Decide():
                    return self._decide(request, budget)
        except ScriptError as error:
            return self._failed(error, budget, limit)
        except MemoryError:
            return Failed("memory", "out of memory")

    def _load(self, request: Load, budget: Budget) -> Loaded:
        policy = self._evaluator.compile(request.source, cancelled=budget.spent)
        self._policies[request.digest] = policy
        if len(self._policies) > MAX_POLICIES:
            del self._policies[next(iter(self._policies))]
        return Loaded()

    def _decide(self, request: Decide, budget: Budget) -> Answer:
        policy = self._policies[request.digest]
        context = self._evaluator.context(request.context)
        # That took as long as the fleet is large, whatever the policy does.
        budget.begin()
        actions = self._evaluator.decide(policy, context, cancelled=budget.spent)
        output = self._evaluator.output
        if len(actions) > self._limits.max_return_bytes:
            text = f"schedule returned {len(actions)} bytes of at most "
            text += str(self._limits.max_return_bytes)
            return Failed("bad_return", text, lines=tuple(output.lines))
        return Returned(
            actions,
            budget.used_ms,
            lines=tuple(output.lines),
            metrics=tuple(output.metrics),
            dropped=output.dropped,
        )

    def _failed(self, error: ScriptError, budget: Budget, limit: int) -> Failed:
        text, lines = str(error), tuple(self._evaluator.output.lines)
        if budget.exceeded:
            return Failed("timeout", f"used more than {limit} ms\n{_cut(text)}", error.line, lines)
        bad = "bad return: " in text or "serializ" in text
        return Failed("bad_return" if bad else "error", _cut(text), error.line, lines)


def _cut(text: str) -> str:
    half = MAX_TRACEBACK // 2
    return text if len(text) <= MAX_TRACEBACK else f"{text[:half]}\n…\n{text[-half:]}"


def serve(connection: socket.socket, child: Child, size: Size, most: int) -> None:
    """Answer until the host closes the connection; say so when this process is larger than that.

    What is freed leaves gaps: after thousands of calls the process has grown, and the memory
    that is left would fail a policy that needs no more than it ever did.
    """
    stream = connection.makefile("rb")
    while prefix := stream.read(HEADER):
        body = stream.read(header(prefix)[0])
        allow_cpu(1)
        answer = child.answer(REQUESTS.decode(body))
        connection.sendall(frame(answer, worn=size.now() > most))


def main() -> None:
    """Bind the process to its limits, then serve."""
    limits = msgspec.json.decode(sys.argv[2], type=Limits)
    connection = socket.socket(fileno=int(sys.argv[1]))
    child = Child(limits)
    child.warm_up()
    gc.freeze()
    size = Size()
    most = size.now() + limits.worn_mib * MIB
    confine(limits, size)
    connection.sendall(frame(Loaded()))
    serve(connection, child, size, most)


if __name__ == "__main__":
    main()
