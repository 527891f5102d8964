"""Settings of fetching that could never work are refused when they are read."""

import pytest
from pydantic import ValidationError

from retrieval.settings import RetrievalSettings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("STOKER_FETCH_AGENT", "stoker\nx-other: 1", "letters, digits and signs"),
        ("STOKER_FETCH_AGENT", "Hafenmühle/1", "letters, digits and signs"),
        ("STOKER_FETCH_PORTS", "443,99999", "less than or equal to 65535"),
        ("STOKER_FETCH_PORTS", "0", "greater than or equal to 1"),
        ("STOKER_S3_SOURCES", '{"acme": ["s3://papers"]}', "write BUCKET or BUCKET/PREFIX"),
        ("STOKER_S3_SOURCES", '{"*": [""]}', "write BUCKET or BUCKET/PREFIX"),
    ],
)
def test_what_could_never_work_is_refused(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=says):
        RetrievalSettings()


def test_what_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_FETCH_AGENT", "stoker/1 (+https://harbour.example)")
    monkeypatch.setenv("STOKER_FETCH_PORTS", "80, 443,8080")
    monkeypatch.setenv("STOKER_S3_SOURCES", '{"acme": ["papers", "shared/public/2026", "shared/public/"]}')
    settings = RetrievalSettings()
    assert settings.fetch_ports == [80, 443, 8080]
    assert settings.s3_sources["acme"][1] == "shared/public/2026"
