"""Which address may be asked for vectors."""

import pytest

from octarm.memory.domain.endpoints import checked_endpoint


@pytest.mark.parametrize(
    "url",
    [
        "https://embedder.example/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]/v1/",
        "http://10.0.0.5/v1",
        "http://embedder:8000/v1",
        "http://embedder.models.svc/v1",
    ],
)
def test_takes_one_that_is_safe(url: str) -> None:
    assert checked_endpoint(url) == url.rstrip("/") + "/"


@pytest.mark.bad_input(16)
@pytest.mark.parametrize(
    "url",
    [
        "ftp://embedder.example/",
        "https:///v1",
        "https://user@embedder.example/",
        "https://embedder.example/#x",
        "http://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://224.0.0.1/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://metadata/",
        "http://embedder.example/",
        "http://8.8.8.8/",
    ],
)
def test_refuses_one_that_is_not(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|leads"):
        checked_endpoint(url)
