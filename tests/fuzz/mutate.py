"""Spoil one place of a JSON document: blind mutations hardly get past a decoder's first look."""

import json
from random import Random
from typing import Any, Final

PLACE: Final = "\x01spoiled\x01"
# Raw JSON, sound or not: what decoders disagree about.
FRAGMENTS: Final = (
    *("null", "true", "{}", "[]", "0", "-0", "1", "-1", "1.5", "1e5", "1E400", "-1e-400", "01"),
    *("NaN", "Infinity", "-Infinity", "1.", ".5", "+1", "0x10", "1_000", "9007199254740993"),
    *(str(2**31), str(2**53), str(2**63), str(2**64), "-" + str(2**63 + 1), "1" + "0" * 400),
    *('""', '"*"', '"a.b"', '"x\\n"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\q"'),
    *('"\\u12"', '"\t"', '"\x00"', '"\U0001f600"', '"\u202e"', '"' + "x" * 5000 + '"'),
    *('"2026-11-21T12:00:00Z"', '"2026-11-21T12:00:00"', '"9999-12-31T23:59:60+99:99"'),
    *('"tsk_01h455vb4pex5vsknk084sn02q"', '"success"', '"failure"', '"partial"', '"draining"'),
    *("[" * 50 + "]" * 50, "[" * 1500 + "]" * 1500, '{"a":1,"a":2}', '{"":{"":{"":""}}}'),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every (container, key or index) of a document."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                todo.append(node[key])
    return found


def spoiled(data: bytes, random: Random) -> bytes | None:
    """Replace, drop, add or repeat one place; None when `data` is no JSON container."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list) or not (found := places(value)):
        return None
    node, key = random.choice(found)
    fragment = random.choice(FRAGMENTS)
    way = random.randrange(8)
    if way == 0:
        del node[key]
    elif way == 1 and isinstance(node, dict):
        node[random.choice(("", "task_id", "extra", "x" * 300))] = PLACE
    elif way == 2 and isinstance(node, list):
        node.extend([node[key]] * random.choice((1, 64, 1001)))
    elif way == 3:
        other, at = random.choice(found)
        fragment = json.dumps(other[at])
        node[key] = PLACE
    else:
        node[key] = PLACE
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    for spelling in (json.dumps(PLACE), json.dumps(PLACE, ensure_ascii=False)):
        text = text.replace(spelling, fragment)
    return text.encode("utf-8", "surrogatepass")
