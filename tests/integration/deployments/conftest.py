"""A gateway of two workers whose deployments change."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import Gateway, Upstream, gateway, mock_upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with mock_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def standing(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("deployments")
    settings = {
        "STOKER_WORKERS": "2",
        "STOKER_CONFIG_POLL_S": "0.1",
        "STOKER_METRICS_GRACE_S": "1",
        "FIRST_API_KEY": "sk-planted",
        "STOKER_DEPLOYMENT_SECRETS": "FIRST_API_KEY",
    }
    with gateway(folder, upstream.port, settings=settings) as standing:
        yield standing


@pytest.fixture
def admin(standing: Gateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {standing.key}"}
    with httpx.Client(base_url=standing.url, headers=headers, timeout=30) as client:
        yield client
