"""`./stoker test --promises` on a house of two files: only a failed assertion is red, and the original stays."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.book import Defect, Edit
from tests.promises.planting import Field, Verdict, open_field

pytestmark = pytest.mark.heavy  # each looks at a run of pytest

CODE = "def may(role):\n    if role != 'admin':\n        return False\n    return True\n"
TESTS = """
import pytest
from guarded import may
def test_guard():
    assert not may("member")
@pytest.mark.skip(reason="not here")
def test_skipped(): ...
"""
PROFILE = "from hypothesis import settings\nsettings.register_profile('fast', max_examples=1)\n"


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    root = tmp_path_factory.mktemp("house")
    files = {"guarded.py": CODE, "test_guarded.py": TESTS, "conftest.py": PROFILE}
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "pytest.ini").write_text("[pytest]\nmarkers = vllm\n  heavy\n  long\n")
    with open_field(root, Path(sys.executable), {}) as opened:
        yield opened
    assert {name: (root / name).read_text() for name in files} == files


@pytest.mark.parametrize(
    ("replaces", "instead", "test", "verdict"),
    [
        ("return False", "return True", "test_guard", Verdict.RED),
        ("!= 'admin'", "in ('member',)", "test_guard", Verdict.GREEN),
        ("return False", "return None.nothing", "test_guard", Verdict.BROKEN),
        ("def may", "import nowhere\ndef may", "test_guard", Verdict.BROKEN),
        ("return False", "return True", "test_skipped", Verdict.BROKEN),
    ],
)
def test_only_a_failed_assertion_is_red(field: Field, replaces: str, instead: str, test: str, verdict: Verdict) -> None:
    defect = Defect((Edit("guarded.py", replaces, instead),), (f"test_guarded.py::{test}",), None)
    assert field.plant(defect).verdict is verdict


def test_tests_that_do_not_pass_without_a_defect_are_told(field: Field) -> None:
    guard, skipped, nowhere = (f"test_guarded.py::{name}" for name in ("test_guard", "test_skipped", "test_nowhere"))
    assert field.check([guard, skipped]) == [f"{skipped}: not here"]
    assert field.check([nowhere])[0].startswith(f"{nowhere}: did not run: ")
