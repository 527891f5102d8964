"""The house whose parts have a proxy between them."""

from collections.abc import Iterator

import pytest

from tests.faults.chaos.house import House, opened


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("chaos") / "house") as one:
        yield one
