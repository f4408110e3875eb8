"""The settings of this arm."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from octarm.executor.limits import Limits


class Settings(BaseSettings):
    """Read from `OCTARM_EXECUTOR_*`; the limits are those of one task, see `Limits`."""

    model_config = SettingsConfigDict(
        env_prefix="OCTARM_EXECUTOR_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    arm_id: str = Field(default="executor", description="Name in the fleet")
    slots: int = Field(default=4, ge=1, le=64, description="Tasks at the same time")
    unsafe: bool = Field(default=False, description="Run without isolation")
    wall_s: float = Field(default=60, gt=0, le=1800, description="Seconds by the clock")
    cpu_s: int = Field(default=30, ge=1, le=1800, description="Seconds of one processor")
    memory_mib: int = Field(default=512, ge=16, le=65_536, description="MiB of resident memory")
    work_mib: int = Field(default=64, ge=1, le=16_384, description="MiB of its working folder")
    processes: int = Field(default=64, ge=4, le=4096, description="Processes and threads")
    output_kib: int = Field(
        default=64, ge=1, le=96, description="KiB kept of stdout, and of stderr"
    )

    @property
    def limits(self) -> Limits:
        """The limits of one run."""
        return Limits(
            wall_s=self.wall_s,
            cpu_s=self.cpu_s,
            memory_mib=self.memory_mib,
            work_mib=self.work_mib,
            processes=self.processes,
            output_bytes=self.output_kib * 1024,
        )
