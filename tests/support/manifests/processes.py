"""Which process of ours a workload runs, and which settings that process reads."""

from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from octarm.arm_registry.settings import Settings as ArmRegistrySettings
from octarm.gateway.settings import Settings as GatewaySettings
from octarm.llm.settings import Settings as LlmSettings
from octarm.memory.settings import Settings as MemorySettings
from octarm.orchestrator.settings import Settings as OrchestratorSettings
from octarm.retriever.settings import Settings as RetrieverSettings
from octarm.scheduler.settings import Settings as SchedulerSettings
from octarm.sdk.settings import ArmSettings

READ_BY: Final[dict[str, tuple[type[BaseSettings], ...]]] = {
    "gateway": (GatewaySettings,),
    "orchestrator": (OrchestratorSettings,),
    "scheduler": (SchedulerSettings,),
    "arm-registry": (ArmRegistrySettings,),
    "memory": (MemorySettings,),
    "llm": (ArmSettings, LlmSettings),
    "retriever": (ArmSettings, RetrieverSettings),
    "migrate-ledger": (OrchestratorSettings,),
    "migrate-memory": (MemorySettings,),
}
# The command `octarm bus provision` has no settings class; it takes these.
PROVISION: Final = frozenset({"OCTARM_NATS_URL", "OCTARM_SHARDS"})
# Where settings come from, read before them.
SOURCES: Final = frozenset({"OCTARM_SECRETS", "OCTARM_CONFIG"})
# A URL carries a password.
SECRET_FIELDS: Final = frozenset({"nats_url"})


def variable(settings: type[BaseSettings], field: str) -> str:
    """Name the variable of a field."""
    return f"{settings.model_config['env_prefix']}{field}".upper()


def readable(workload: str) -> set[str]:
    """Give every variable that a process reads."""
    if workload == "provision-bus":
        return {*PROVISION, *SOURCES}
    return {
        variable(settings, field)
        for settings in READ_BY[workload]
        for field in settings.model_fields
    } | SOURCES


def required(workload: str) -> set[str]:
    """Give the variables without which a process refuses to start."""
    return {
        variable(settings, name)
        for settings in READ_BY.get(workload, ())
        for name, field in settings.model_fields.items()
        if field.is_required()
    }


def secret_variables(workload: str) -> set[str]:
    """Give the variables whose values nobody else may see."""
    if workload == "provision-bus":
        return {"OCTARM_NATS_URL"}
    return {
        variable(settings, name)
        for settings in READ_BY[workload]
        for name, field in settings.model_fields.items()
        if name in SECRET_FIELDS or _is_secret(field)
    }


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr
