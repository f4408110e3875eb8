"""What a check found, for people and for machines."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from octarm.verify.invariants import INVARIANTS, Mode, Violation


@dataclass(slots=True, repr=False)
class Report:
    """Everything that was checked: what held, what is broken, what could not be judged."""

    mode: Mode
    rules: dict[str, int] = field(default_factory=dict)
    """Invariant → number of rules that were checked."""
    violations: list[Violation] = field(default_factory=list)
    not_checked: dict[str, str] = field(default_factory=dict)
    """Invariant → why no rule of it could be checked."""
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """How much was read: tasks, events, operations, …"""

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return not self.violations

    @property
    def broken(self) -> set[str]:
        """The invariants that are broken."""
        return {violation.invariant for violation in self.violations}

    def checked(self, invariant: str, found: Iterable[Violation] = (), *, rules: int = 1) -> None:
        """Record that rules of an invariant were checked, and what broke them."""
        self.rules[invariant] = self.rules.get(invariant, 0) + rules
        self.violations.extend(found)

    def skipped(self, invariant: str, why: str) -> None:
        """Record why an invariant, or a part of it, could not be checked."""
        self.not_checked[invariant] = why

    def status(self, invariant: str) -> str:
        """`broken`, `held`, or `not checked`."""
        if invariant in self.broken:
            return "broken"
        return "held" if self.rules.get(invariant) else "not checked"

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "ok": self.ok,
            "mode": self.mode.value,
            "counts": self.counts,
            "invariants": [
                {
                    "invariant": name,
                    "title": title,
                    "status": self.status(name),
                    "rules": self.rules.get(name, 0),
                    "not_checked": self.not_checked.get(name),
                }
                for name, title in INVARIANTS.items()
            ],
            "violations": [
                {
                    "invariant": violation.invariant,
                    "rule": violation.rule,
                    "count": violation.count,
                    "examples": list(violation.examples),
                    "hint": violation.hint,
                }
                for violation in self.violations
            ],
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        """The violations, one a line; for assertions."""
        lines = [
            f"{v.invariant} {v.rule}: {v.count} (e.g. {', '.join(v.examples[:3])}) – {v.hint}"
            for v in self.violations
        ]
        return "\n".join(lines) or f"clean ({self.mode.value})"
