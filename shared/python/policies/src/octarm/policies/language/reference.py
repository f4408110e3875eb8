"""The reference page of the helpers, written from their own descriptions.

`python -m octarm.policies.language.reference` prints it.
"""

import sys
from itertools import groupby

from octarm.policies.language.catalog import GROUPS, Helper, helpers
from octarm.policies.language.counterparts import COUNTERPARTS, GONE

HEAD = """\
# Helpers for policies

Every function here can be called by every policy, Starlark or the expressions of YAML rules;
nothing has to be loaded. They change nothing but the `plan` that they are given, and give the
same for the same context. `task`, `arm` and `instance` are objects of the context; times are
milliseconds, money is micro-dollars. How to write a policy: [policies](../guides/policies.md).

With a `plan` (see `new_plan`) the helpers that choose an arm rank the arms once for all tasks
that need the same, and count what the answer has placed so far. Without one they look at every
arm for every task, and see only what ran before this cycle.

This page is written from the helpers by `make reference`; a test compares the two.
"""
AGES = """\
## How old it is
On a running scheduler; a simulated load tells policies everything at once.

- **The cycle**: `ctx.queue`, `ctx.metrics`, `tenant.running`, and an arm's `slots`, `free` and
  `running` – what was placed, and what has ended as far as the scheduler has heard.
  `avg_wait_ms` is up to a second old.
- **The last beat**, every five seconds by default: an arm's `load`, `avg_latency_ms`,
  `success_rate`, `largest` and `widest`; an instance's `running`.
- **The last change in the registry**, milliseconds ago: an arm's `status`, `labels`,
  `capabilities`, `cost_tier`.
- **The last result**: `task.est_ms`, `task.est_cost`, `arm.observed`. They are smoothed means over
  attempts that needed the same; the newest counts for at least a twentieth. When a script first
  decides or shadows at a leader they are made of what the ledger has of the last hour, which takes
  some cycles; of what never ran they are 0, and empty. Of arms the 1,024 means are shown that
  changed last.
- **Ten seconds**: `spent_today`, `tokens_today` and `limits` of a tenant, while the ledger answers;
  where a day has millions of tasks, twenty times as long as the ledger takes to add them up.
  They are 0, and without limits, in the first cycle that shows a tenant. `limits.running` is the
  tenant's `max_in_flight`; the others are `None`.
"""
BUILTINS = """\
## Builtins
Of Starlark itself: `abs`, `all`, `any`, `bool`, `dict`, `dir`, `enumerate`, `fail`, `filter`,
`float`, `getattr`, `hasattr`, `hash`, `int`, `json.encode`, `json.decode`, `len`, `list`, `map`,
`max`, `min`, `partial`, `range`, `repr`, `reversed`, `sorted`, `str`, `struct`, `tuple`, `type`,
`zip`. There is no `while`, no `import`, no clock, no randomness, no file and no network.
"""


def page() -> str:
    """Give the whole page."""
    parts = [HEAD]
    for group, members in groupby(helpers(), key=lambda helper: helper.group):
        parts.append(f"## {GROUPS[group]}\n" + "\n".join(_entry(helper) for helper in members))
    parts += [AGES, BUILTINS, _counterparts()]
    return "\n".join(parts)


def _entry(helper: Helper) -> str:
    return f"### `{helper.signature}`\n{helper.doc}\n"


def _counterparts() -> str:
    rows = [
        f"| `{theirs}` | {', '.join(_named(name) for name in ours)} |"
        for theirs, ours in COUNTERPARTS.items()
    ]
    rows += [f"| `{theirs}` | none: {reason} |" for theirs, reason in GONE.items()]
    title = "## Coming from a scheduler for GPU workers\n| there | here |\n|---|---|\n"
    return title + "\n".join(rows) + "\n"


def _named(name: str) -> str:
    return name if " " in name else f"`{name}`"


if __name__ == "__main__":
    sys.stdout.write(page())
