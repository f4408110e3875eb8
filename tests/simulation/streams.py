"""Streams of the simulated bus: retention, limits, deduplication, expected sequences."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

NS: Final = 1_000_000_000
MSG_ID: Final = re.compile(rb"\r\nNats-Msg-Id: *([^\r]*)\r\n", re.IGNORECASE)
FENCE: Final = re.compile(
    rb"\r\nNats-Expected-Last-Subject-Sequence-Subject: *([^\r]*)\r\n", re.IGNORECASE
)
EXPECTED: Final = re.compile(rb"\r\nNats-Expected-Last-Subject-Sequence: *(\d+)\r\n", re.IGNORECASE)


def matcher(patterns: list[str]) -> Callable[[str], Any]:
    """Compile subject patterns with `*` and `>`."""
    parts = []
    for pattern in patterns:
        text = re.escape(pattern).replace(r"\*", "[^.]+")
        parts.append(re.sub(r"(>|\\>)$", ".+", text))
    return re.compile("|".join(f"(?:{part})" for part in parts)).fullmatch


@dataclass(slots=True)
class Stored:
    """A message of a stream; `at` is in virtual seconds."""

    seq: int
    subject: str
    header: bytes
    data: bytes
    at: float

    @property
    def size(self) -> int:
        """Roughly what the real server counts."""
        return len(self.subject) + len(self.header) + len(self.data) + 30


class Reader(Protocol):
    """A consumer, as its stream sees it."""

    def wants(self, message: Stored) -> bool:
        """Whether it has still to acknowledge a message."""


class Refused(Exception):
    """The API's answer to what it does not do."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(description)
        self.body = {"code": code, "err_code": err_code, "description": description}


class Stream:
    """One stream; consumers tell it what is acknowledged."""

    def __init__(self, config: dict[str, Any], now: Callable[[], float]) -> None:
        self.config = config
        self.name: str = config["name"]
        self.subjects: list[str] = config["subjects"]
        self.takes = matcher(self.subjects)
        self.messages: dict[int, Stored] = {}
        self.last_seq = 0
        self.bytes = 0
        self.is_full = False
        self.readers: list[Reader] = []
        self._now = now
        self._known: dict[bytes, tuple[int, float]] = {}

    @property
    def work_queue(self) -> bool:
        """Whether an acknowledged message is gone."""
        return bool(self.config.get("retention") == "workqueue")

    @property
    def by_interest(self) -> bool:
        """Whether a message is gone once all its consumers have acknowledged it."""
        return bool(self.config.get("retention") == "interest")

    def acknowledged(self, seq: int) -> None:
        """Take that a consumer is done with a message."""
        message = self.messages.get(seq)
        if self.work_queue or (self.by_interest and message and not self._wanted(message)):
            self.remove(seq)

    def reader_left(self) -> None:
        """Take that a consumer is no more: what it alone wanted goes."""
        for message in list(self.messages.values()) if self.by_interest else ():
            self.acknowledged(message.seq)

    def _wanted(self, message: Stored) -> bool:
        return any(reader.wants(message) for reader in self.readers)

    def forget_ids(self) -> None:
        """Forget the Msg-Ids of messages that are gone, as a restarted server does."""
        self._known = {key: it for key, it in self._known.items() if it[0] in self.messages}

    def publish(self, subject: str, header: bytes, data: bytes) -> tuple[Stored | None, int]:
        """Store a message; gives it, or None and the sequence of its first copy.

        Raises:
            Refused: the stream is full, or the expected sequence is not the last one.
        """
        self.expire()
        expected = EXPECTED.search(header) if header else None
        if expected is not None:
            fence = FENCE.search(header)
            last = self.last_of(fence[1].decode() if fence else subject)
            if last != int(expected[1]):
                raise Refused(400, 10071, f"wrong last sequence: {last}")
        msg_id = MSG_ID.search(header) if header else None
        if msg_id is not None and (known := self._first_copy(msg_id[1])) is not None:
            return None, known
        message = Stored(self.last_seq + 1, subject, header, data, self._now())
        self._make_room(message)
        self.last_seq += 1
        self.messages[self.last_seq] = message
        self.bytes += message.size
        if msg_id is not None:
            self._known[msg_id[1]] = (self.last_seq, self._now())
        if self.by_interest and not self._wanted(message):
            self.remove(self.last_seq)
        return message, self.last_seq

    def _first_copy(self, msg_id: bytes) -> int | None:
        found = self._known.get(msg_id)
        if found is None:
            return None
        seq, at = found
        return seq if self._now() - at < self.config["duplicate_window"] / NS else None

    def _make_room(self, message: Stored) -> None:
        per_subject = self.config.get("max_msgs_per_subject", -1)
        if per_subject > 0:
            same = [m for m in self.messages.values() if m.subject == message.subject]
            for old in same[: len(same) + 1 - per_subject]:
                self.remove(old.seq)
        most_bytes, most = self.config.get("max_bytes", -1), self.config.get("max_msgs", -1)
        while self.is_full or self._over(message, most_bytes, most):
            if self.is_full or self.config.get("discard") == "new" or not self.messages:
                what = "messages" if 0 < most <= len(self.messages) else "bytes"
                raise Refused(503, 10077, f"maximum {what} exceeded")
            self.remove(next(iter(self.messages)))

    def _over(self, message: Stored, most_bytes: int, most: int) -> bool:
        too_many = 0 < most < len(self.messages) + 1
        return too_many or 0 < most_bytes < self.bytes + message.size

    def expire(self) -> None:
        """Drop what has passed its age."""
        max_age = self.config.get("max_age", 0)
        while max_age and self.messages:
            oldest = next(iter(self.messages.values()))
            if self._now() - oldest.at < max_age / NS:
                return
            self.remove(oldest.seq)

    def remove(self, seq: int) -> bool:
        """Remove one message; false when it is not there."""
        message = self.messages.pop(seq, None)
        if message is not None:
            self.bytes -= message.size
        return message is not None

    def purge(self, pattern: str = ">", keep: int = 0) -> int:
        """Remove everything that matches but the newest `keep`; gives the number."""
        found = [message.seq for message in self.after(0, matcher([pattern]))]
        gone = found[: len(found) - keep] if keep else found
        for seq in gone:
            self.remove(seq)
        return len(gone)

    def last_of(self, subject: str) -> int:
        """Give the last sequence of a subject, 0 when there is none."""
        return next((m.seq for m in reversed(self.messages.values()) if m.subject == subject), 0)

    def find(self, request: dict[str, Any]) -> Stored:
        """Answer a get: by sequence, the last of a subject, the next of a subject.

        Raises:
            Refused: there is none.
        """
        self.expire()
        if last := request.get("last_by_subj"):
            found = self.messages.get(self.last_of(last))
        elif following := request.get("next_by_subj"):
            matches = matcher([following])
            found = next((m for m in self.after(request.get("seq", 1) - 1, matches)), None)
        else:
            found = self.messages.get(request.get("seq", 0))
        if found is None:
            raise Refused(404, 10037, "no message found")
        return found

    def after(self, seq: int, matches: Callable[[str], Any]) -> Iterator[Stored]:
        """Give what comes after a sequence and matches."""
        for message in self.messages.values():
            if message.seq > seq and matches(message.subject):
                yield message

    def state(self, consumers: int) -> dict[str, Any]:
        """Describe it as `STREAM.INFO` does."""
        self.expire()
        first = next(iter(self.messages), self.last_seq + 1)
        return {
            "messages": len(self.messages),
            "bytes": self.bytes,
            "first_seq": first if self.last_seq else 0,
            "last_seq": self.last_seq,
            "consumer_count": consumers,
        }
