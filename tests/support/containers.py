"""The same servers as Docker containers."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

NATS_IMAGE = "nats:2.14"
REDIS_IMAGE = "redis:7"
POSTGRES_IMAGE = "pgvector/pgvector:pg18"
_ANSWER_TIMEOUT_S = 2
_PASSWORD = "octarm"


def are_at_hand() -> bool:
    """Whether a Docker engine answers and holds every image, so that nothing is downloaded."""
    if shutil.which("docker") is None:
        return False
    question = ["docker", "image", "inspect", NATS_IMAGE, REDIS_IMAGE, POSTGRES_IMAGE]
    try:
        answer = subprocess.run(question, capture_output=True, timeout=_ANSWER_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


@contextmanager
def nats() -> Iterator[str]:
    """The URL of nats-server with JetStream on."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = DockerContainer(NATS_IMAGE).with_command("-js").with_exposed_ports(4222)
    with container.waiting_for(LogMessageWaitStrategy("Server is ready")) as running:
        yield f"nats://{running.get_container_host_ip()}:{running.get_exposed_port(4222)}"


@contextmanager
def redis() -> Iterator[str]:
    """The URL of redis-server without persistence."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    command = "redis-server --save '' --appendonly no"
    container = DockerContainer(REDIS_IMAGE).with_command(command).with_exposed_ports(6379)
    with container.waiting_for(LogMessageWaitStrategy("Ready to accept connections")) as running:
        yield f"redis://{running.get_container_host_ip()}:{running.get_exposed_port(6379)}/0"


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of Postgres with pgvector, as its superuser."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = (
        DockerContainer(POSTGRES_IMAGE)
        .with_env("POSTGRES_USER", "octarm")
        .with_env("POSTGRES_PASSWORD", _PASSWORD)
        .with_env("POSTGRES_DB", "octarm")
        .with_command("postgres -c max_connections=200 -c fsync=off")
        .with_exposed_ports(5432)
    )
    # It starts twice: once to create the database, then for good.
    ready = LogMessageWaitStrategy("database system is ready to accept connections", times=2)
    with container.waiting_for(ready) as running:
        host, port = running.get_container_host_ip(), running.get_exposed_port(5432)
        yield f"postgresql://octarm:{_PASSWORD}@{host}:{port}/octarm"
