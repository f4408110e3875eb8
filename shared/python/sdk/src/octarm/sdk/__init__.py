"""Write arms and clients for Octarm."""

from octarm.models.contracts import ResourceBudget, TaskContract, TaskSubmission
from octarm.models.errors import BudgetExceeded, OctarmError, TaskFailed
from octarm.models.results import ExecutionResult, ProvenanceMetadata
from octarm.sdk.arm import Arm
from octarm.sdk.context import Context

__all__ = [
    "Arm",
    "BudgetExceeded",
    "Context",
    "ExecutionResult",
    "OctarmError",
    "ProvenanceMetadata",
    "ResourceBudget",
    "TaskContract",
    "TaskFailed",
    "TaskSubmission",
]
