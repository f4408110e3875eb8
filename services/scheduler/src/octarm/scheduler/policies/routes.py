"""Questions about policies: translation only. Any instance answers, whatever it leads."""

from typing import Final

from faststream.nats import NatsRouter

from octarm.common.bus.requests import answer
from octarm.models import subjects
from octarm.policies.desk.desk import PolicyDesk
from octarm.policies.desk.simulating import Simulate

QUEUE: Final = "scheduler"


def policy_questions(desk: PolicyDesk, simulate: Simulate) -> NatsRouter:
    """The subscriptions; nothing connects until a broker includes them."""
    router = NatsRouter()
    answer(router, subjects.SAVE_POLICY, queue=QUEUE)(desk.save)
    answer(router, subjects.VALIDATE_POLICY, queue=QUEUE)(desk.validate)
    answer(router, subjects.LIST_POLICIES, queue=QUEUE)(desk.list)
    answer(router, subjects.GET_POLICY, queue=QUEUE)(desk.get)
    answer(router, subjects.DEPLOY_POLICY, queue=QUEUE)(desk.deploy)
    answer(router, subjects.END_SHADOW, queue=QUEUE)(desk.end_shadow)
    answer(router, subjects.ROLL_BACK_POLICY, queue=QUEUE)(desk.roll_back)
    answer(router, subjects.DELETE_POLICY, queue=QUEUE)(desk.delete)
    answer(router, subjects.SIMULATE_POLICY, queue=QUEUE)(simulate)
    return router
