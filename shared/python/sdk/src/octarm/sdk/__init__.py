"""Write arms and clients for Octarm."""

from octarm.models.contracts import ResourceBudget, TaskContract, TaskSubmission
from octarm.models.errors import BudgetExceeded, OctarmError, TaskFailed
from octarm.models.results import ExecutionResult, ProvenanceMetadata
from octarm.sdk.arm import Arm, serve_together
from octarm.sdk.client import Client
from octarm.sdk.context import Context
from octarm.sdk.event_streams import StreamedEvent
from octarm.sdk.submissions import SubmissionsRefused
from octarm.sdk.sync import SyncClient, SyncTask
from octarm.sdk.tasks import Task

__all__ = [
    "Arm",
    "BudgetExceeded",
    "Client",
    "Context",
    "ExecutionResult",
    "OctarmError",
    "ProvenanceMetadata",
    "ResourceBudget",
    "StreamedEvent",
    "SubmissionsRefused",
    "SyncClient",
    "SyncTask",
    "Task",
    "TaskContract",
    "TaskFailed",
    "TaskSubmission",
    "serve_together",
]
