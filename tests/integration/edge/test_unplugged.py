"""An edge without a network, on a folder that can't be written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.edge.conftest import COLLECTION, Origin
from tests.support import edge

_INTERFACES = "import json, socket; print(json.dumps([name for _, name in socket.if_nameindex()]))"
_WRITE = "import sys; open(sys.argv[1] + '/written', 'w')"
_UNREACHABLE = "http://192.0.2.1:8080"  # an address of nobody's (RFC 5737)


@pytest.mark.parametrize("central", [None, _UNREACHABLE])
def test_it_answers_without_any_interface(
    folder: Path, origin: Origin, tmp_path: Path, central: str | None, figure: Callable[[str], None]
) -> None:
    flags = () if central is None else ("--central", central, "--confidence", "1")
    secrets = {"STOKER_EDGE_CENTRAL_KEY": "sk-stoker-x"}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with edge.unplugged(folder, tmp_path / "edge.log", *flags, env=secrets) as unplugged:
        if unplugged.how == "namespace":
            assert unplugged.run(_INTERFACES).strip() == '["lo"]'
            with pytest.raises(Exception, match="non-zero"):
                unplugged.run(_WRITE, str(folder))
        told = 0
        for question in list(origin.judged.queries.values())[:10]:
            body = {"query": question, "collection": COLLECTION}
            answer = unplugged.ask("/v1/query", body)
            assert answer["answered_by"] == "edge"
            told += bool(answer["citations"])
            assert unplugged.ask("/v1/search", body)["data"]
        assert unplugged.ask("/health")["central"] == (None if central is None else "away")
    figure(f"by {unplugged.how}, central {central or 'none'}: 10 of 10 questions answered, {told} with citations")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
