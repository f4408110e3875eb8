"""The page that lists every setting, written from the Settings classes.

`python -m tests.support.settings_page` writes it; only tests may import all processes at once.
"""

from collections.abc import Iterable
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from octarm.arm_registry.settings import Settings as ArmRegistrySettings
from octarm.common.service import ServiceSettings
from octarm.executor.settings import Settings as ExecutorSettings
from octarm.gateway.settings import Settings as GatewaySettings
from octarm.llm.settings import Settings as LlmSettings
from octarm.memory.settings import Settings as MemorySettings
from octarm.orchestrator.settings import Settings as OrchestratorSettings
from octarm.retriever.settings import Settings as RetrieverSettings
from octarm.scheduler.settings import Settings as SchedulerSettings
from octarm.sdk.settings import ArmSettings, ClientSettings
from tests.support.sources import ROOT

PAGE: Final = ROOT / "docs/guides/settings.md"

PROCESSES: Final[dict[str, tuple[type[BaseSettings], str]]] = {
    "gateway": (GatewaySettings, ""),
    "orchestrator": (OrchestratorSettings, ""),
    "scheduler": (SchedulerSettings, ""),
    "arm-registry": (ArmRegistrySettings, "Nothing of its own: a beat says how often it comes."),
    "memory": (MemorySettings, ""),
    "every arm": (ArmSettings, "What `Arm.main()` reads."),
    "executor": (ExecutorSettings, "From the environment only; the limits are those of one task."),
    "llm": (LlmSettings, "From the environment only."),
    "retriever": (RetrieverSettings, "From the environment only."),
    "client of the SDK": (ClientSettings, "From the environment only; `Client(url)` wins over it."),
}

HEAD: Final = """\
# Settings

The environment wins over the files of the folder that `OCTARM_SECRETS` names, one for each secret,
called like its variable in lower case (`octarm_nats_url`); they win over a TOML file that
`OCTARM_CONFIG` names. In that file the table `[common]`
holds for every process that knows the key, the table with a service's name (`[arm]` for every arm)
for that service; keys are the names below in lower case without `OCTARM_`. An unknown key in a
service's table, a missing or a wrong value refuse to start with one line and exit code 78. An empty
variable counts as absent. SIGHUP reads everything again and applies log level, sampling and the
rules of tenants.

This page is written from the code by `make schemas`; a test compares the two.

## Every service and every arm
"""

TAIL: Final = """\
## The command line
| variable | default | meaning |
|---|---|---|
| `OCTARM_URL` | that of the profile | The gateway to speak to; `--url` wins |
| `OCTARM_API_KEY` | that of the profile | The key to show it |
| `OCTARM_PROFILE` | the default one | Which profile of `~/.config/octarm/config.toml` |
| `OCTARM_DATA` | `~/.local/share/octarm` | Folder of the embedded stack |

`XDG_CONFIG_HOME` and `XDG_DATA_HOME` move these folders. `octarm db migrate` takes
`OCTARM_POSTGRES_URL`, `octarm bus provision` takes `OCTARM_NATS_URL` and `OCTARM_SHARDS`,
`octarm arms drain` takes `OCTARM_ARM_KEY`.

`octarm up` hands its environment on to what it starts and sets the URLs there. It exports spans to
`<data>/traces` with `OCTARM_TRACE_SAMPLE` 0, which records what is asked for with `--trace`, unless
the environment says otherwise.

## Tests
| variable | default | meaning |
|---|---|---|
| `OCTARM_TEST_SERVERS` | `auto` | `embedded`, `containers`, or `auto`: as the images are there |
| `OCTARM_FAILPOINT` | – | `relay_before_delete:exit` and more: see [chaos](chaos.md) |
"""


def page() -> str:
    """Give the whole page."""
    return "\n".join([HEAD + _table(ServiceSettings), *_sections(), TAIL])


def _sections() -> Iterable[str]:
    for name, (settings, note) in PROCESSES.items():
        table = _table(settings, above=ServiceSettings)
        parts = (f"{note}\n" if note else "", table)
        yield f"## {name}\n" + "\n".join(part for part in parts if part)


def _table(settings: type[BaseSettings], *, above: type[BaseSettings] | None = None) -> str:
    """List the fields of a class; with `above` only those that this other one says not the same."""
    known = above.model_fields if above else {}
    rows = [
        f"| `{_variable(settings, name)}` | {_default(field)} | {_meaning(field)} |\n"
        for name, field in settings.model_fields.items()
        if name not in known or known[name].description != field.description
    ]
    return "| variable | default | meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""


def _variable(settings: type[BaseSettings], name: str) -> str:
    alias = settings.model_fields[name].validation_alias
    return str(alias or f"{settings.model_config['env_prefix']}{name}".upper())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if field.default_factory is not None or value in ("", None):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    assert field.description, f"{field} has no description"
    bounds = ", ".join(_bounds(field.metadata))
    return f"{field.description} ({bounds})" if bounds else field.description


def _bounds(metadata: list[Any]) -> Iterable[str]:
    for sign, attribute in (("≥", "ge"), (">", "gt"), ("≤", "le")):
        for one in metadata:
            bound = getattr(one, attribute, None)
            if bound is not None:
                yield f"{sign} {bound:,}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
