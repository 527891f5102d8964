"""The file of promises speaks of tests and texts that are there; `./stoker test --promises` plants its defects."""

import re
from collections import Counter
from datetime import date

from tests.promises.book import names_of, read, read_headlines
from tests.support.process import ROOT

PROMISES = read(ROOT)
HEADLINES = read_headlines(ROOT)
DEFECTS = [defect for promise in PROMISES for defect in promise.defects]


def test_no_promise_is_made_twice_and_each_has_a_defect() -> None:
    assert len(PROMISES) > 50
    assert [says for says, count in Counter(promise.says for promise in PROMISES).items() if count > 1] == []
    assert [promise.says for promise in PROMISES if not promise.defects] == []
    assert [defect.edits for defect, count in Counter(DEFECTS).items() if count > 1] == []


def test_every_headline_has_a_figure_a_day_and_promises_that_keep_it() -> None:
    assert [headline.says for headline in HEADLINES] == [
        "The stack is invisible",
        "Streams don't break",
        "Money is exact",
        "Nothing is lost",
        "Nothing leaks",
        "Citations hold",
        "Retrieval is good",
        "It saves money",
        "GPU and model are one picture",
        "A newcomer is served",
    ]
    said = {promise.says for promise in PROMISES}
    for headline in HEADLINES:
        assert headline.kept_by, headline.says
        assert [one for one in headline.kept_by if one not in said] == []
        assert re.search(r"\d", headline.figure), headline.says
        assert date(2026, 11, 1) < headline.seen <= date.today(), headline.says
        assert all(command.startswith("./stoker ") for command in headline.measured_by), headline.says


def test_words_of_a_headline_choose_the_promises_that_keep_it() -> None:
    for headline in HEADLINES:
        chosen = [promise.says for promise in PROMISES if promise.concerns([headline.says])]
        assert sorted(chosen) == sorted(headline.kept_by)


def test_every_text_that_a_defect_replaces_stands_once_in_its_file() -> None:
    texts = {edit.file: (ROOT / edit.file).read_text() for defect in DEFECTS for edit in defect.edits}
    wrong = []
    for defect in DEFECTS:
        planted = dict(texts)
        for edit in defect.edits:
            try:
                planted[edit.file] = edit.of(planted[edit.file])
            except ValueError as error:
                wrong.append(str(error))
        wrong += [f"{edit.file}: nothing changes" for edit in defect.edits if planted[edit.file] == texts[edit.file]]
    assert not wrong, "code has moved: let docs/promises.toml name what stands there now"


def test_every_planted_module_still_compiles() -> None:
    for defect in DEFECTS:
        for edit in (edit for edit in defect.edits if edit.file.endswith(".py")):
            compile(edit.of((ROOT / edit.file).read_text()), edit.file, "exec")


def test_every_test_that_a_promise_names_exists() -> None:
    named = {test for promise in PROMISES for test in promise.tests} | {test for one in DEFECTS for test in one.tests}
    files = {test.partition("::")[0] for test in named}
    there = {file: names_of(ROOT / file) for file in files if (ROOT / file).is_file()}
    missing = [test for test in named if _name(test) not in there.get(test.partition("::")[0], set())]
    assert not missing


def _name(test: str) -> str:
    return test.partition("::")[2].partition("[")[0]
