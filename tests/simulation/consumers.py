"""Consumers of the simulated bus: pull with AckWait and redelivery, ordered push for watchers."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.simulation.streams import NS, Stored, Stream, matcher
from tests.simulation.timeline import EPOCH, START_S

EPOCH_NS: Final = int(EPOCH.timestamp()) * NS


class Wires(Protocol):
    """What a consumer needs of its server."""

    ack_waits_s: dict[float, float]

    def now(self) -> float:
        """Give the virtual seconds."""

    def later(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back later."""

    def is_heard(self, subject: str) -> bool:
        """Tell whether anybody is subscribed."""

    def send(self, to: str, subject: str, reply: str, header: bytes, data: bytes) -> None:
        """Send to the subscribers of `to` what was published on `subject`."""

    def redelivers_early(self) -> bool:
        """Whether a message comes again though its time is not up."""

    def is_blind(self) -> bool:
        """Whether a watcher misses this message."""


@dataclass(slots=True)
class Request:
    """An open pull request."""

    reply: str
    left: int
    until: float
    beat_s: float
    heard_at: float


@dataclass(slots=True)
class Pending:
    """A delivery that waits for its acknowledgement."""

    deadline: float
    consumer_seq: int


class Consumer:
    """One consumer of one stream."""

    def __init__(self, stream: Stream, name: str, config: dict[str, Any], wires: Wires) -> None:
        self.stream = stream
        self.name = name
        self.wires = wires
        self.requests: deque[Request] = deque()
        self.pending: dict[int, Pending] = {}
        self.counts: dict[int, int] = {}
        self.consumer_seq = 0
        self.cursor = 0
        self.deleted = False
        self._again: list[tuple[float, int]] = []
        self._first: deque[int] = deque()
        self.configure(config)
        self._start()
        stream.readers.append(self)

    def configure(self, config: dict[str, Any]) -> None:
        """Take a configuration, new or changed."""
        self.config = config
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        self.matches = matcher(filters)
        ack_wait_s = config.get("ack_wait", 30 * NS) / NS
        self.ack_wait_s = self.wires.ack_waits_s.get(ack_wait_s, ack_wait_s)
        self.most_pending = config.get("max_ack_pending", 1000)
        self.needs_ack = config.get("ack_policy") != "none"
        self.push_to: str | None = config.get("deliver_subject")

    def _start(self) -> None:
        policy = self.config.get("deliver_policy", "all")
        if policy == "last_per_subject":
            last = {m.subject: m.seq for m in self.stream.after(0, self.matches)}
            self._first = deque(sorted(last.values()))
            self.cursor = self.stream.last_seq
        elif policy == "by_start_sequence":
            self.cursor = self.config["opt_start_seq"] - 1
        elif policy == "new":
            self.cursor = self.stream.last_seq
        if self.push_to is not None:
            self.wires.later(0.0, self.pump)
            self.wires.later(self._beat_s, self._push_beat)

    @property
    def _beat_s(self) -> float:
        return float(self.config.get("idle_heartbeat", 5 * NS) / NS)

    # --- delivering

    def pump(self) -> None:
        """Deliver what can be delivered now."""
        if self.deleted:
            return
        while (receiver := self._receiver()) is not None:
            message = self._next()
            if message is None:
                return
            self._deliver(message, receiver)

    def _receiver(self) -> str | None:
        if self.push_to is not None:
            return self.push_to if self.wires.is_heard(self.push_to) else None
        if self.needs_ack and len(self.pending) >= self.most_pending:
            return None
        now = self.wires.now()
        while self.requests:
            request = self.requests[0]
            if request.left > 0 and now < request.until and self.wires.is_heard(request.reply):
                return request.reply
            self.requests.popleft()
        return None

    def _next(self) -> Stored | None:
        now = self.wires.now()
        while self._again and self._again[0][0] <= now:
            _, seq = heapq.heappop(self._again)
            message = self.stream.messages.get(seq)
            if message is not None and seq in self.counts and seq not in self.pending:
                return message
        while self._first:
            message = self.stream.messages.get(self._first.popleft())
            if message is not None:
                return message
        while self.cursor < self.stream.last_seq:
            self.cursor += 1
            message = self.stream.messages.get(self.cursor)
            if message is not None and self.matches(message.subject):
                return message
        return None

    def _deliver(self, message: Stored, receiver: str) -> None:
        now = self.wires.now()
        self.consumer_seq += 1
        count = self.counts.get(message.seq, 0) + 1
        if self.needs_ack:
            self.counts[message.seq] = count
            wait_s = 0.001 if self.wires.redelivers_early() else self.ack_wait_s
            self.pending[message.seq] = Pending(now + wait_s, self.consumer_seq)
            self.wires.later(wait_s, self._overdue, message.seq, self.consumer_seq)
        stamp = EPOCH_NS + int((message.at - START_S) * NS)
        reply = (
            f"$JS.ACK.{self.stream.name}.{self.name}.{count}.{message.seq}"
            f".{self.consumer_seq}.{stamp}.{self.num_pending()}"
        )
        if self.push_to is None:
            request = self.requests.popleft()
            request.left -= 1
            request.heard_at = now
            if request.left:
                self.requests.append(request)
        elif self.wires.is_blind():
            return
        self.wires.send(receiver, message.subject, reply, message.header, message.data)

    def _overdue(self, seq: int, consumer_seq: int) -> None:
        pending = self.pending.get(seq)
        if pending is None or pending.consumer_seq != consumer_seq or self.deleted:
            return
        left_s = pending.deadline - self.wires.now()
        if left_s > 0:
            self.wires.later(left_s, self._overdue, seq, consumer_seq)
            return
        del self.pending[seq]
        heapq.heappush(self._again, (self.wires.now(), seq))
        self.pump()

    # --- what clients say

    def pull(self, reply: str, asked: dict[str, Any]) -> None:
        """Open a pull request."""
        now = self.wires.now()
        expires_s = asked.get("expires", 0) / NS
        until = now + expires_s if expires_s else float("inf")
        beat_s = asked.get("idle_heartbeat", 0) / NS
        request = Request(reply, asked.get("batch", 1), until, beat_s, now)
        self.requests.append(request)
        if beat_s:
            self.wires.later(beat_s, self._beat, request)
        if expires_s:
            self.wires.later(expires_s, self._expired, request)
        self.pump()
        if asked.get("no_wait") and request.left > 0:
            request.left = 0
            self._status(reply, "404 No Messages")

    def _beat(self, request: Request) -> None:
        if request.left <= 0 or self.deleted or not self.wires.is_heard(request.reply):
            return
        now = self.wires.now()
        if now >= request.until:
            return
        if now - request.heard_at >= request.beat_s - 1e-6:
            request.heard_at = now
            self._status(request.reply, "100 Idle Heartbeat")
        self.wires.later(request.heard_at + request.beat_s - now, self._beat, request)

    def _expired(self, request: Request) -> None:
        if request.left > 0 and not self.deleted:
            pending = f"\r\nNats-Pending-Messages: {request.left}\r\nNats-Pending-Bytes: 0"
            self._status(request.reply, "408 Request Timeout" + pending)
            request.left = 0

    def _push_beat(self) -> None:
        if self.deleted or self.push_to is None or not self.wires.is_heard(self.push_to):
            return
        last = f"\r\nNats-Last-Consumer: {self.consumer_seq}\r\nNats-Last-Stream: {self.cursor}"
        self._status(self.push_to, "100 Idle Heartbeat" + last)
        self.wires.later(self._beat_s, self._push_beat)

    def _status(self, reply: str, status: str) -> None:
        self.wires.send(reply, reply, "", f"NATS/1.0 {status}\r\n\r\n".encode(), b"")

    def settle(self, seq: int, consumer_seq: int, body: bytes) -> None:
        """Take an ack, nak, term or in-progress, also of an earlier delivery."""
        if body.startswith(b"+WPI"):
            if (pending := self.pending.get(seq)) is not None:
                pending.deadline = self.wires.now() + self.ack_wait_s
        elif body.startswith(b"-NAK"):
            self._nak(seq, body)
        elif seq in self.counts:
            self.pending.pop(seq, None)
            del self.counts[seq]
            self.stream.acknowledged(seq)
            self.pump()

    def _nak(self, seq: int, body: bytes) -> None:
        if self.pending.pop(seq, None) is None:
            return
        found = body.partition(b":")[2].strip(b" }")
        delay_s = int(found) / NS if found else 0.0
        heapq.heappush(self._again, (self.wires.now() + delay_s, seq))
        self.wires.later(delay_s, self.pump)

    def delete(self) -> None:
        """End it: open requests are told."""
        self.deleted = True
        self.stream.readers.remove(self)
        self.stream.reader_left()
        for request in self.requests:
            if request.left > 0:
                self._status(request.reply, "409 Consumer Deleted")

    # --- what it says of itself

    def wants(self, message: Stored) -> bool:
        """Whether it has still to acknowledge a message."""
        ahead = message.seq > self.cursor or message.seq in self._first
        return bool(message.seq in self.counts or (ahead and self.matches(message.subject)))

    def num_pending(self) -> int:
        """Count what has never been delivered."""
        if self.cursor >= self.stream.last_seq:
            return len(self._first)
        return len(self._first) + sum(1 for _ in self.stream.after(self.cursor, self.matches))

    def info(self) -> dict[str, Any]:
        """Describe it as `CONSUMER.INFO` does."""
        open_seqs = [seq for seq in self.counts if seq in self.stream.messages]
        floor = min(open_seqs) - 1 if open_seqs else self.cursor
        return {
            "stream_name": self.stream.name,
            "name": self.name,
            "config": self.config,
            "created": "2026-11-21T12:00:00Z",
            "delivered": {"consumer_seq": self.consumer_seq, "stream_seq": self.cursor},
            "ack_floor": {"consumer_seq": 0, "stream_seq": floor},
            "num_ack_pending": len(open_seqs),
            "num_redelivered": sum(1 for seq in open_seqs if self.counts[seq] > 1),
            "num_waiting": len(self.requests),
            "num_pending": self.num_pending(),
        }
