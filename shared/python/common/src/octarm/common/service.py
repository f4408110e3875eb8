"""How every process of ours starts, listens to signals and ends."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import tomllib
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from octarm.common import failpoints, secret_files, telemetry
from octarm.common.cancelling import end
from octarm.common.telemetry import tracing
from octarm.common.telemetry.logs import setup_logs
from octarm.models.errors import OctarmError
from octarm.models.ids import TOKEN_PATTERN

EX_CONFIG: Final = 78
EX_FORCED: Final = 130

log = telemetry.get_logger()


def _instance() -> str:
    return f"i-{uuid.uuid4().hex[:12]}"


class ServiceSettings(BaseSettings):
    """What every process reads: environment `OCTARM_*` > files of secrets > TOML file.

    OCTARM_SECRETS names a folder with a file for each secret, called like its variable in lower
    case. The TOML file is named by OCTARM_CONFIG; its table `section` holds these keys, and an
    unknown key there refuses to start.
    """

    model_config = SettingsConfigDict(
        env_prefix="OCTARM_", frozen=True, extra="forbid", env_ignore_empty=True
    )
    section: ClassVar[str] = "service"

    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        description="NATS with JetStream; of a cluster all URLs, with commas;"
        " `tls://…?ca=FILE` trusts that authority alone",
    )
    nats_cluster: str | None = Field(default=None, description="Refuse any other cluster")
    http_host: str = Field(default="127.0.0.1", description="Where HTTP is served")
    http_port: int = Field(
        default=0, ge=0, le=65535, description="/healthz, /readyz, /metrics; 0: any free port"
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error)$",
        description="debug, info, warning or error; read again at SIGHUP",
    )
    trace_export: str = Field(
        default="none",
        pattern="^(none|console|(file|otlp):.+)$",
        description="Where spans go: none, console, file:FOLDER or otlp:URL",
    )
    trace_sample: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of traces begun here that are recorded; read again at SIGHUP",
    )
    instance: str = Field(
        default_factory=_instance,
        pattern=TOKEN_PATTERN,
        description="Name of this process; by default a new one at every start",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put files of secrets, and below them a TOML file, under the environment."""
        sources = (init_settings, env_settings, file_secret_settings)
        path = os.environ.get("OCTARM_CONFIG")
        if not path:
            return sources
        return (*sources, _Section(settings_cls, Path(path), cls.section))


class _Section(InitSettingsSource):
    """One table of the TOML file; keys in `[common]` hold for every process that knows them."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path, section: str) -> None:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        known = settings_cls.model_fields
        common = {key: value for key, value in document.get("common", {}).items() if key in known}
        super().__init__(settings_cls, common | document.get(section, {}))


B = TypeVar("B", bound=BaseSettings)
S = TypeVar("S", bound=ServiceSettings)
Main = Callable[[S, asyncio.Event], Awaitable[None]]
_reloads: Final[list[Callable[[Any], None]]] = []


def when_reloaded(take: Callable[[Any], None]) -> None:
    """Have `take` called with the settings that SIGHUP reads again, once they are found good.

    There is one process, and so one list of those who want to know.
    """
    _reloads.append(take)


def read_settings(settings: type[B]) -> B:
    """Read the settings of this process.

    Raises:
        OctarmError: a value is missing or wrong; the message is one line and shows no value.
    """
    try:
        path = os.environ.get("OCTARM_CONFIG")
        if path and not Path(path).is_file():
            raise OctarmError(f"OCTARM_CONFIG names {path}, which cannot be read")
        return settings(_secrets_dir=secret_files.folder())
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise OctarmError(f"setting {name}: {first['msg']}" if name else first["msg"]) from error
    except (SettingsError, tomllib.TOMLDecodeError, OSError) as error:
        raise OctarmError(f"settings: {error}") from error


def _tune_collector() -> None:
    """Let the cycle collector look less often, and never at what was there from the start.

    Messages die by reference count; what is collected young is mostly futures that wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(main: Main[S], settings: type[S], name: str) -> NoReturn:
    """Run a process to its end and exit with its code.

    The first SIGTERM or SIGINT sets the event that `main` gets, so that it drains; a second
    one exits at once with 130. SIGHUP reads the settings again and applies log level, sampling
    and what `when_reloaded` asked for; a bad reload keeps the old ones. A refusal to start is one
    line on stderr and exit code 78.
    """
    try:
        values = read_settings(settings)
        failpoints.begin(name)
    except OctarmError as error:
        refuse(name, error.message)
    telemetry.setup(
        name,
        log_level=values.log_level,
        trace_export=values.trace_export,
        trace_sample=values.trace_sample,
        instance=values.instance,
    )
    _tune_collector()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_supervised(main, values, name))
    except OctarmError as error:
        refuse(name, f"{error.message} ({error.recovery_hint})")
    finally:
        tracing.shutdown()
    sys.exit(0)


def refuse(name: str, why: str) -> NoReturn:
    """Refuse to start: one line on stderr, exit code 78."""
    line = " ".join(why.split())
    sys.stderr.write(f"octarm-{name}: {line}\n")
    sys.exit(EX_CONFIG)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _supervised(main: Main[S], values: S, name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop() -> None:
        if stop.is_set():
            log.warning("forced_exit")
            os._exit(EX_FORCED)
        log.info("draining")
        stop.set()

    def reload() -> None:
        try:
            again = read_settings(type(values))
        except OctarmError as error:
            log.error("reload_refused", error=error.message)
            return
        setup_logs(name, again.log_level)
        tracing.sample(again.trace_sample)
        for take in _reloads:
            take(again)
        log.info("reloaded", log_level=again.log_level, trace_sample=again.trace_sample)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    log.info("starting", instance=values.instance, pid=os.getpid())
    # What the imports made lives as long as the process; unfrozen, each full collection walks
    # it again and stops the loop for 70 ms in the gateway.
    gc.collect()
    gc.freeze()
    await main(values, stop)
    log.info("stopped")


async def until_stopped(stop: asyncio.Event, *work: Awaitable[None]) -> None:
    """Run long-lived work side by side; when one part ends or fails, stop the others too.

    Raises:
        Exception: what the first part that failed raised.
    """
    tasks = [asyncio.ensure_future(part) for part in work]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await asyncio.gather(*tasks)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await end(stopped, *tasks)
