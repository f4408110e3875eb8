"""The two tasks of each document, and what came of them."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from octarm.cli.demo.documents import Document

Kind = Literal["summarise", "count"]

MAX_SUMMARY_TOKENS: Final = 48
SUMMARISED_CHARS: Final = 1_500
TIMEOUT_S: Final = 900
SNIPPET: Final = """\
import hashlib, json
data = open("input.txt", "rb").read()
digest = hashlib.sha256(data).hexdigest()
print(json.dumps({"words": len(data.decode().split()), "sha256": digest}))
"""


@dataclass(slots=True)
class Job:
    """One task of the demo and the latest that is known of it."""

    document: Document
    kind: Kind
    priority: int
    task_id: str = ""
    state: str = "new"
    attempt: int = 0
    result: dict[str, Any] | None = None
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in {"completed", "failed", "cancelled", "timed_out", "rejected"}

    @property
    def seconds(self) -> float:
        """How long its last attempt worked."""
        return int((self.result or {}).get("execution_time_ms") or 0) / 1000

    @property
    def tokens(self) -> int:
        """What it used."""
        return int((self.result or {}).get("tokens_used") or 0)

    @property
    def output(self) -> dict[str, Any]:
        """What the arm returned; empty when it is no object."""
        output = (self.result or {}).get("output")
        return output if isinstance(output, dict) else {}

    def take(self, outcome: dict[str, Any]) -> None:
        """Take in where the gateway says that the task stands."""
        self.state = outcome["state"]
        self.attempt = outcome.get("attempt", 0)
        self.result = outcome.get("result")
        problem = outcome.get("error") or (self.result or {}).get("error") or {}
        self.error = str(problem.get("detail") or problem.get("title") or "")

    def problem(self) -> str:
        """Why it did not go well; empty when it did, the arm's answer included."""
        if self.state != "completed":
            return f"{self.state}: {self.error}" if self.error else self.state
        return _wrong_count(self) if self.kind == "count" else _wrong_summary(self)


def jobs_for(documents: list[Document]) -> list[Job]:
    """Two jobs a document, urgent and patient ones in turn."""
    jobs = []
    for index, document in enumerate(documents):
        urgent = index % 2 == 0
        jobs.append(Job(document, "summarise", priority=3 if urgent else 8))
        jobs.append(Job(document, "count", priority=7 if urgent else 2))
    return jobs


def submission(job: Job, run: str) -> dict[str, Any]:
    """The task as it is handed in."""
    common = {
        "priority": job.priority,
        "timeout_seconds": TIMEOUT_S,
        "labels": {"demo": run, "kind": job.kind},
    }
    if job.kind == "count":
        return common | {
            "goal": "Count the words of the file and compute its SHA-256",
            "required_capabilities": ["execute", "python"],
            "context": {"python": SNIPPET, "files": {"input.txt": job.document.text}},
        }
    return common | {
        "goal": "Summarise this text in one sentence.",
        "required_capabilities": ["summarise"],
        "context": {"text": job.document.text[:SUMMARISED_CHARS]},
        "constraints": {"max_output_tokens": MAX_SUMMARY_TOKENS},
    }


def summary_of(job: Job) -> str:
    """The model's text."""
    return str(job.output.get("text", "")).strip()


def count_of(job: Job) -> dict[str, Any]:
    """What the snippet printed; empty when that is not what it prints."""
    try:
        counted = json.loads(str(job.output.get("stdout", "")))
    except ValueError:
        return {}
    return counted if isinstance(counted, dict) else {}


def _wrong_count(job: Job) -> str:
    expected = {"words": job.document.words, "sha256": job.document.sha256}
    return "" if count_of(job) == expected else "the sandbox counted something else than we did"


def _wrong_summary(job: Job) -> str:
    return "" if summary_of(job) else "the model wrote nothing"
