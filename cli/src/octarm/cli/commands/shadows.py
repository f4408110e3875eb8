"""What a shadow would have done otherwise."""

from octarm.cli.command import Session
from octarm.cli.describe import short_time
from octarm.cli.output import note, pairs, table
from octarm.cli.sources import PATH


def show_differences(session: Session, shard: int) -> None:
    """Show how the shadow has differed from what decides, the newest tasks first."""
    with session.gateway() as gateway:
        found = gateway.get(f"{PATH}/shadow/differences", shard=shard)
    if session.answer(found):
        return
    if not found["shadow"]:
        note("nothing shadows; begin with 'octarm policy shadow REF'")
        return
    failed = ", ".join(f"{count} {why}" for why, count in found["failed"].items())
    pairs(
        [
            ("shadow", found["shadow"]),
            ("cycles", f"{found['cycles']}, {found['equal']} of them the same"),
            ("failed", failed or None),
            ("placed", f"{found['placed_live']} tasks, the shadow {found['placed_shadow']}"),
            ("elsewhere", found["moved"] or None),
            ("only placed by what decides", found["only_live"] or None),
            ("only placed by the shadow", found["only_shadow"] or None),
            ("only rejected by one", found["rejected"] or None),
        ]
    )
    rows = [
        (short_time(it["at"]), it["task_id"], it["live"], it["shadow"], it["reason"])
        for it in found["differences"]
    ]
    if rows:
        table(("at", "task", "decided", "shadow", "*reason"), rows)
