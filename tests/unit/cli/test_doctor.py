"""How the doctor's findings are graded."""

from pathlib import Path

import pytest

from cli import doctor
from cli.doctor import Verdict
from cli.environments import Environment


def _missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr("cli.environments.ENVIRONMENTS", folder)
    return Environment("none", (), "packages")


def test_what_only_developers_need_is_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of a newcomer's warnings were of environments of the tests."""
    missing = _missing(tmp_path, monkeypatch)
    found = doctor._environment(missing, "test", for_developers=True)
    assert (found.verdict, found.remedy) == (Verdict.INFO, "")
    assert "only who changes Stoker needs it" in found.text
    needed = doctor._environment(missing, "up")
    assert (needed.verdict, needed.remedy) == (Verdict.WARN, "./stoker up installs it: packages")


def test_a_hub_that_is_not_in_reach_is_not_ok() -> None:
    away = doctor._hub(False)
    assert (away.verdict, bool(away.remedy)) == (Verdict.INFO, True)
    assert "not in reach" in away.text
    assert doctor._hub(True).verdict is Verdict.OK


def test_information_fails_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: [doctor._hub(False)])
    assert doctor.doctor(None)  # type: ignore[arg-type]  # nobody asks it
    assert capsys.readouterr().out.startswith("info  hub: ")
