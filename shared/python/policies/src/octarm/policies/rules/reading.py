"""Read YAML that nobody trusts: bounded, without aliases, tags, or keys that occur twice."""

from typing import Any, Final

import yaml

MAX_DEPTH: Final = 8
MAX_EVENTS: Final = 5_000

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RulesError(Exception):
    """The rules cannot be compiled; `line` counts from one."""

    def __init__(self, text: str, line: int | None = None, hint: str = "") -> None:
        super().__init__(text)
        self.line = line
        self.hint = hint


class Mapping(dict[str, Any]):
    """A mapping that knows the line it begins in, and the lines of its values."""

    line: int
    lines: dict[str, int]


def read(source: str) -> Mapping:
    """Read the one document of a source.

    Raises:
        RulesError: it is no YAML, no mapping, or uses what is not taken here.
    """
    try:
        _look_through(source)
        node = yaml.compose(source, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise RulesError(f"no YAML: {what}", mark.line + 1 if mark else None) from None
    if not isinstance(node, yaml.MappingNode):
        raise RulesError("the document must be a mapping", 1, "begin with: rules:")
    return _mapping(node)


def _look_through(source: str) -> None:
    """Refuse what could grow or recurse before anything is built."""
    depth = 0
    for number, event in enumerate(yaml.parse(source, Loader=_LOADER)):
        line = event.start_mark.line + 1
        if number > MAX_EVENTS:
            raise RulesError(f"more than {MAX_EVENTS} nodes", line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RulesError("anchors and aliases are not taken", line, "write it out")
        if getattr(event, "tag", None):
            raise RulesError(f"the tag {event.tag} is not taken", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RulesError(f"nested deeper than {MAX_DEPTH}", line)


def _mapping(node: yaml.MappingNode) -> Mapping:
    found, lines = Mapping(), {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in found:
            raise RulesError(f"{name!r} occurs twice", line)
        found[name] = _value(value)
        lines[name] = value.start_mark.line + 1
    found.line, found.lines = node.start_mark.line + 1, lines
    return found


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    return _scalar(node)


def _scalar(node: yaml.Node) -> str | int | bool | None:
    text = str(node.value)
    match node.tag.rsplit(":", 1)[-1]:
        case "bool":
            return text.lower() in ("true", "yes", "on")
        case "null":
            return None
        case "int" if text.lstrip("+-").isdigit() and len(text) < 16:
            return int(text)
        case _:
            return text
