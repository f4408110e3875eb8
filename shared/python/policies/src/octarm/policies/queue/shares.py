"""Who has had how much: fair shares by weight, counted in virtual time."""

from collections.abc import Mapping
from typing import Final

_SWEEP_FROM: Final = 1024


class Share:
    """The account of a tenant, or of one session of a tenant.

    `virtual` is the service had so far divided by the weight; who has the least goes first.
    `clock` is where those below it that were served last stand.
    """

    __slots__ = ("clock", "inner", "name", "virtual", "waiting", "weight")

    def __init__(self, name: str, weight: float, virtual: float) -> None:
        self.name = name
        self.weight = weight
        self.virtual = virtual
        self.clock = 0.0
        self.waiting = 0
        self.inner = Accounts()

    def begin(self, clock: float) -> None:
        """Count one more that waits; who comes back from being idle begins at `clock` or later."""
        if not self.waiting:
            self.virtual = max(self.virtual, clock)
        self.waiting += 1


class Accounts:
    """Accounts by name.

    Those who wait for nothing and are not ahead of the clock may be dropped: they would start
    there anyway.
    """

    __slots__ = ("_sweep_at", "by_name")

    def __init__(self) -> None:
        self.by_name: dict[str, Share] = {}
        self._sweep_at = _SWEEP_FROM

    def open(self, name: str, weight: float, clock: float) -> Share:
        """Give the account of that name, made when there is none."""
        share = self.by_name.get(name)
        if share is None:
            if len(self.by_name) >= self._sweep_at:
                self._sweep(clock)
            share = self.by_name[name] = Share(name, weight, clock)
        return share

    def _sweep(self, clock: float) -> None:
        kept = {name: it for name, it in self.by_name.items() if it.waiting or it.virtual > clock}
        self.by_name = kept
        self._sweep_at = 2 * len(kept) + _SWEEP_FROM


class Shares:
    """The accounts of all tenants, and of the sessions of each. Weights default to 1.

    After start-time fair queueing (Goyal, Vin and Cheng, 1996): between two who always wait and
    may use the same arms, service by weight differs by at most one task of each. Who comes back
    from being idle may have up to `credit` slots, of what others had meanwhile, ahead of them.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights = dict(weights or {})
        self.clock = 0.0
        self.credit = 0.0
        self._tenants = Accounts()

    def open(self, tenant: str, session: str) -> tuple[Share, Share]:
        """Give the accounts of a tenant and of one of its sessions."""
        weight = self.weights.get(tenant, 1.0)
        outer = self._tenants.open(tenant, weight, self.clock - self.credit / weight)
        return outer, outer.inner.open(session, 1.0, outer.clock)

    def joined(self, path: tuple[Share, Share]) -> None:
        """Count a task that waits."""
        tenant, session = path
        tenant.begin(self.clock - self.credit / tenant.weight)
        session.begin(tenant.clock)

    def left(self, path: tuple[Share, Share]) -> None:
        """Count a task that waits no more, served or not."""
        tenant, session = path
        tenant.waiting -= 1
        session.waiting -= 1

    def served(self, path: tuple[Share, Share], slots: int) -> None:
        """Charge a task that is placed."""
        tenant, session = path
        # A clock stands where the service of who was served last began.
        if tenant.virtual > self.clock:
            self.clock = tenant.virtual
        if session.virtual > tenant.clock:
            tenant.clock = session.virtual
        tenant.virtual += slots / tenant.weight
        session.virtual += slots / session.weight
