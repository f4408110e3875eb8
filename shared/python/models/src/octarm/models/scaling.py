"""How much work there is for one arm, as whoever scales it wants to know."""

from pydantic import Field

from octarm.models.commands import Message
from octarm.models.ids import ArmId, Tag
from octarm.models.scalars import Count, Flag


class GetDemand(Message):
    """Ask how much work there is for an arm with these capabilities."""

    arm_id: ArmId
    capabilities: list[Tag] = Field(default_factory=list, max_length=100)
    takes_any: Flag = Field(
        default=True, description="Whether it takes tasks that name no capability"
    )


class ArmDemand(Message):
    """Work for one arm in slots: what an instance has so many of.

    A task that several arms can run counts for each of them until one of them has it.
    """

    arm_id: ArmId
    runnable_slots: Count = Field(description="Of queued tasks that it could run")
    running_slots: Count = Field(description="Of attempts that it has, begun or not")
    capped: Flag = Field(default=False, description="More is queued than was looked at")
