"""What the subjects say of their streams is what is provisioned, and dead letters are as said."""

import base64
from pathlib import Path
from typing import Any, cast

from nats.aio.msg import Msg

from octarm.common.bus.dead_letters import DeadLetters
from octarm.common.bus.delivery import Delivery
from octarm.common.bus.letters import LETTER, payload_of, read_letter
from octarm.common.bus.topology import STREAMS
from octarm.common.testing.fakes import RecordingPublisher
from octarm.models.events import DeadLetter
from octarm.models.subjects import DEAD_LETTER, DLQ, SUBJECTS


def test_every_stream_keeps_the_subjects_that_name_it() -> None:
    named: dict[str, set[str]] = {DLQ: {DEAD_LETTER.format(origin="*")}}
    for subject in SUBJECTS:
        if subject.stream:
            named.setdefault(subject.stream, set()).add(subject.pattern)

    assert {spec.name: set(spec.subjects) for spec in STREAMS} == named


async def test_a_dead_letter_is_what_its_model_says() -> None:
    publisher = RecordingPublisher()
    settled: list[bytes] = []
    reply = "$JS.ACK.OCTARM_RESULTS.orchestrator-finish-task.6.42.7.1795000000000000000.0"
    message = Msg(cast(Any, None), subject="octarm.v1.evt.result.echo", reply=reply, data=b"{nope")
    delivery = Delivery(message, lambda _, data: settled.append(data))

    await DeadLetters(cast(Any, publisher), "orchestrator-finish-task").bury(delivery, "no JSON")

    (sent,) = publisher.published
    (line,) = sent.head.decode().splitlines()
    letter = DeadLetter.model_validate_json(line.removeprefix(f"{LETTER}: "))
    assert (letter.stream_seq, letter.deliveries, letter.size_bytes) == (42, 6, 5)
    assert base64.b64decode(letter.first_bytes) == b"{nope"
    assert (letter.kept, sent.payload) == ("whole", b"{nope")
    assert settled


def test_a_dead_letter_of_the_first_version_can_still_be_read() -> None:
    body = (Path(__file__).parent / "golden" / "v1" / "DeadLetter.json").read_bytes()

    letter = read_letter({}, body)

    assert letter is not None
    assert payload_of(letter, body) is None
