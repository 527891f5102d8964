"""One gateway with all of its parts."""

from collections.abc import Iterator

import pytest

from tests.faults.chaos.plain import Plain, plain


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    # Nobody is to be asked or told anything outside: no documents are fetched, and no keeper delivers.
    with plain(tmp_path_factory.mktemp("described") / "house", {"STOKER_FETCH": "false"}) as one:
        one.parts["keeper"].end()
        yield one
