"""Start the llm arm: `python -m octarm.llm`."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from octarm.common.service import read_settings, refuse
from octarm.llm.answer import AnswerTask
from octarm.llm.condense import CAPABILITY, CondenseEpisode
from octarm.llm.local import LocalModel, NoLocalModel, default_weights
from octarm.llm.openai_compatible import OpenAICompatible
from octarm.llm.provider import Provider
from octarm.llm.question import Defaults
from octarm.llm.results import result_of
from octarm.llm.settings import Settings
from octarm.models.contracts import MAX_LABEL_CHARS, TaskContract
from octarm.models.errors import OctarmError
from octarm.models.results import ExecutionResult
from octarm.sdk import Arm, Context
from octarm.sdk.cancelling import unless_cancelled


def provider_of(settings: Settings) -> Provider:
    """Make the provider that the settings name; a local model begins to load at once.

    Raises:
        NoLocalModel: the wheels or the weights are missing.
    """
    if settings.provider == "openai":
        return OpenAICompatible(
            base_url=f"{settings.base_url.rstrip('/')}/",
            model=settings.model,
            api_key=settings.api_key,
            context_tokens=settings.context_tokens,
            timeout_s=settings.timeout_s,
        )
    local = LocalModel(
        Path(settings.model) if settings.model else default_weights(),
        context_tokens=settings.context_tokens,
        slots=settings.slots,
        threads=settings.threads,
        timeout_s=settings.timeout_s,
    )
    local.start()
    return local


def labels_of(settings: Settings) -> dict[str, str]:
    """Give the labels by which the scheduler knows whose headroom a call takes.

    None for the local model, which nobody else calls.
    """
    if settings.provider != "openai":
        return {}
    named = {
        "provider": urlsplit(settings.base_url).netloc.rpartition("@")[2],
        "credential": settings.credential,
        "model": settings.model,
    }
    return {name: value[:MAX_LABEL_CHARS] for name, value in named.items() if value}


def traced_as(settings: Settings) -> dict[str, str]:
    """Name provider and model for traces; a local model by its file, not its folder."""
    if settings.provider == "openai":
        return {"provider": "openai", "model": settings.model}
    return {"provider": "llama_cpp", "model": Path(settings.model).name or "default"}


def llm(settings: Settings, provider: Provider) -> Arm:
    """Wire the arm."""
    arm = Arm(
        settings.arm_id,
        capabilities={"llm", "summarise", "answer", CAPABILITY},
        slots=settings.slots,
        labels=labels_of(settings),
    )
    defaults = Defaults(
        max_output_tokens=settings.max_output_tokens, temperature=settings.temperature
    )
    answer_task = AnswerTask(provider, defaults, traced_as(settings))
    condense = CondenseEpisode(answer_task)

    @arm.run
    async def run(task: TaskContract, ctx: Context) -> ExecutionResult:
        started_at = datetime.now(UTC)
        do = condense if CAPABILITY in task.required_capabilities else answer_task
        answer = await unless_cancelled(ctx, do(task, ctx))
        return result_of(task, ctx, answer, started_at=started_at)

    return arm


def main() -> None:
    """Read the settings, begin to load the model, and serve."""
    try:
        settings = read_settings(Settings)
        provider = provider_of(settings)
    except OctarmError as error:
        refuse("llm", error.message)
    except NoLocalModel as error:
        refuse("llm", str(error))
    llm(settings, provider).main()


if __name__ == "__main__":
    main()
