"""What the arm registry reads at its start."""

from typing import ClassVar

from octarm.common.service import ServiceSettings


class Settings(ServiceSettings):
    """The arm registry has no settings of its own: a beat says how often it comes."""

    section: ClassVar[str] = "arm-registry"
