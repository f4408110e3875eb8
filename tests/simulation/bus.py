"""SimBus: a nats-server with JetStream in memory, spoken to by the real client.

It answers the protocol below nats-py, so that the product's own publisher, runner, leadership
and directory run on it unchanged. `tests/contract/test_sim_bus.py` holds it to the real server.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tests.simulation.api import answer
from tests.simulation.chances import Chances, Chronicle
from tests.simulation.consumers import Consumer
from tests.simulation.streams import MSG_ID, Refused, Stream, matcher
from tests.simulation.timeline import VirtualLoop
from tests.simulation.wires import Link, SimTransport

INFO: Final = (
    b'INFO {"server_id":"SIM","server_name":"sim","version":"2.14.0","jetstream":true,'
    b'"headers":true,"max_payload":1048576,"proto":1,"client_id":1}\r\n'
)
NO_RESPONDERS: Final = b"NATS/1.0 503\r\n\r\n"
_WORDS: Final = re.compile(rb"[^\r\n]*\r\n")
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Subscription:
    """One subscription of one link."""

    link: Link
    sid: bytes
    subject: str
    queue: str
    left: int | None = None


class SimBus:
    """One server; faults are drawn from `chances`, what happens is noted in the chronicle."""

    def __init__(self, loop: VirtualLoop, chances: Chances, chronicle: Chronicle) -> None:
        self.loop = loop
        self.chances = chances
        self.chronicle = chronicle
        self.up = True
        self.hear_stored: Callable[[str, str, bytes], None] = lambda *_: None
        # What to wait instead of a configured AckWait, to save virtual time.
        self.ack_waits_s: dict[float, float] = {}
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self.links: dict[Link, dict[bytes, Subscription]] = {}
        self._exact: dict[str, list[Subscription]] = {}
        self._inboxes: dict[str, list[Subscription]] = {}
        self._patterns: list[tuple[Callable[[str], Any], Subscription]] = []
        self._number = 0

    # --- connections

    def accept(self, transport: SimTransport) -> Link:
        """Take a connection; raises ConnectionRefusedError while down."""
        if not self.up or self.chances.hit("connect_refused"):
            raise ConnectionRefusedError("no server")
        link = Link(self, transport)
        self.links[link] = {}
        link.to_client(INFO)
        return link

    def forget(self, link: Link) -> None:
        """Drop a link's subscriptions."""
        for subscription in self.links.pop(link, {}).values():
            self._unsubscribe(subscription)

    def restart(self, away_s: float) -> None:
        """Go away with all connections, come back with what was stored."""
        self.up = False
        for link in list(self.links):
            link.drop()
        for key, consumer in list(self.consumers.items()):
            if consumer.config.get("mem_storage"):
                consumer.deleted = True
                consumer.stream.readers.remove(consumer)
                del self.consumers[key]
        for stream in self.streams.values():
            stream.forget_ids()
        self.loop.later(away_s, self._come_back)

    def _come_back(self) -> None:
        self.up = True

    def receive(self, link: Link, data: bytes) -> None:
        """Read what a client says."""
        data = link.unread + data
        at = 0
        while (line := _WORDS.match(data, at)) is not None:
            words = line[0].split()
            verb = words[0].upper()
            if verb in (b"PUB", b"HPUB"):
                end = line.end() + int(words[-1])
                if len(data) < end + 2:
                    break
                self._published(words, data[line.end() : end])
                at = end + 2
                continue
            at = line.end()
            if verb == b"PING":
                link.to_client(b"PONG\r\n")
            elif verb == b"SUB" and link.open:
                self._subscribe(link, words)
            elif verb == b"UNSUB" and link.open:
                self._unsub(link, words)
        link.unread = data[at:]

    def _published(self, words: list[bytes], body: bytes) -> None:
        subject = words[1].decode()
        size, has_reply = (0, 4) if words[0].upper() == b"PUB" else (int(words[-2]), 5)
        reply = words[2].decode() if len(words) == has_reply else ""
        self.publish(subject, reply, body[:size], body[size:])

    # --- subscriptions

    def _subscribe(self, link: Link, words: list[bytes]) -> None:
        subject, queue = words[1].decode(), words[2].decode() if len(words) == 4 else ""
        subscription = Subscription(link, words[-1], subject, queue)
        self.links[link][words[-1]] = subscription
        if "*" not in subject and ">" not in subject:
            self._exact.setdefault(subject, []).append(subscription)
        elif subject.startswith("_INBOX") and subject.endswith(".*"):
            self._inboxes.setdefault(subject[:-2], []).append(subscription)
        else:
            self._patterns.append((matcher([subject]), subscription))
        for consumer in list(self.consumers.values()):
            if consumer.push_to == subject:
                consumer.pump()

    def _unsub(self, link: Link, words: list[bytes]) -> None:
        subscription = self.links[link].get(words[1])
        if subscription is None:
            return
        if len(words) == 3:
            subscription.left = int(words[2])
            return
        del self.links[link][words[1]]
        self._unsubscribe(subscription)

    def _unsubscribe(self, gone: Subscription) -> None:
        for table, key in ((self._exact, gone.subject), (self._inboxes, gone.subject[:-2])):
            if gone in table.get(key, ()):
                table[key].remove(gone)
                if not table[key]:
                    del table[key]
        self._patterns = [(matches, it) for matches, it in self._patterns if it is not gone]

    def _matching(self, subject: str) -> list[Subscription]:
        found = list(self._exact.get(subject, ()))
        if subject.startswith("_INBOX"):
            return found + self._inboxes.get(subject.rpartition(".")[0], [])
        return found + [it for matches, it in self._patterns if matches(subject)]

    def _chosen(self, subject: str) -> list[Subscription]:
        """Give the receivers: of each queue group, one."""
        groups: dict[str, list[Subscription]] = {}
        chosen = []
        for subscription in self._matching(subject):
            if subscription.queue:
                groups.setdefault(subscription.queue, []).append(subscription)
            else:
                chosen.append(subscription)
        return chosen + [self.chances.rng.choice(group) for group in groups.values()]

    # --- messages

    def publish(self, subject: str, reply: str, header: bytes, data: bytes) -> None:
        """Take a message from a client."""
        if subject.startswith("$JS."):
            self._asked(subject, reply, data)
            return
        stream = next((s for s in self.streams.values() if s.takes(subject)), None)
        receivers = self._chosen(subject)
        if stream is not None:
            self._store(stream, subject, reply, header, data)
        elif not receivers and reply:
            self.send(reply, reply, "", NO_RESPONDERS, b"")
        for subscription in receivers:
            if not subject.startswith("_INBOX") and self.chances.hit("core_lost"):
                continue
            self._write(subscription, subject, reply, header, data)

    def _store(self, stream: Stream, subject: str, reply: str, header: bytes, data: bytes) -> None:
        if self.chances.hit("publish_lost"):
            return
        try:
            message, seq = stream.publish(subject, header, data)
            ack: dict[str, Any] = {"stream": stream.name, "seq": seq}
            if message is None:
                ack["duplicate"] = True
        except Refused as refusal:
            message, ack = None, {"stream": stream.name, "seq": 0, "error": refusal.body}
        if message is not None:
            msg_id = MSG_ID.search(header)
            self.hear_stored(stream.name, subject, data)
            self.note("stored", stream.name, seq, subject, msg_id[1].decode() if msg_id else "")
        if reply and not self.chances.hit("puback_lost"):
            late_s = self.chances.rng.uniform(1, 8) if self.chances.hit("puback_late") else 0.0
            self.loop.later(late_s, self.send, reply, reply, "", b"", _encode(ack))
        if message is not None:
            for consumer in self._of(stream):
                consumer.pump()

    def _of(self, stream: Stream) -> list[Consumer]:
        return [it for (name, _), it in self.consumers.items() if name == stream.name]

    def _asked(self, subject: str, reply: str, data: bytes) -> None:
        if subject.startswith("$JS.ACK."):
            self._settled(subject.split("."), reply, data)
        elif subject.startswith("$JS.API.") and not self.chances.hit("api_lost"):
            body = answer(self, subject.split(".")[2:], reply, data)
            if body is not None and reply:
                self.send(reply, reply, "", *body)

    def _settled(self, tokens: list[str], reply: str, data: bytes) -> None:
        consumer = self.consumers.get((tokens[2], tokens[3]))
        if consumer is None or self.chances.hit("ack_lost"):
            return
        self.note("settled", tokens[2], tokens[3], tokens[5], data[:4].decode())
        consumer.settle(int(tokens[5]), int(tokens[6]), data)
        if reply:
            self.send(reply, reply, "", b"", b"")

    def send(self, to: str, subject: str, reply: str, header: bytes, data: bytes) -> None:
        """Send to whoever is subscribed to `to` what carries `subject`."""
        for subscription in self._chosen(to):
            self._write(subscription, subject, reply, header, data)

    def _write(
        self, subscription: Subscription, subject: str, reply: str, header: bytes, data: bytes
    ) -> None:
        if subscription.left is not None:
            subscription.left -= 1
            if subscription.left < 0:
                return
        head = f"{subject} {subscription.sid.decode()} {reply + ' ' if reply else ''}"
        if header:
            line = f"HMSG {head}{len(header)} {len(header) + len(data)}\r\n"
        else:
            line = f"MSG {head}{len(data)}\r\n"
        subscription.link.to_client(b"%b%b%b\r\n" % (line.encode(), header, data))

    # --- what consumers need

    def next_number(self) -> int:
        """Number what has no name."""
        self._number += 1
        return self._number

    def now(self) -> float:
        """Give the virtual seconds."""
        return self.loop.now_s

    def later(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back later."""
        self.loop.later(seconds, callback, *arguments)

    def is_heard(self, subject: str) -> bool:
        """Tell whether anybody is subscribed."""
        return bool(self._matching(subject))

    def redelivers_early(self) -> bool:
        """Whether a message comes again though its time is not up."""
        return self.chances.hit("redelivered_early")

    def is_blind(self) -> bool:
        """Whether a watcher misses this message."""
        return self.chances.hit("watcher_blind")

    def note(self, *what: object) -> None:
        """Write into the chronicle."""
        self.chronicle.note(self.loop.now_s, *what)
