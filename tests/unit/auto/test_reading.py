"""What of a request's body is looked at."""

from typing import Any

import pytest

from api.auto.reading import Read, read


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}, Read(("Hi",))),
        (
            {"messages": [{"role": "user", "content": str(at)} for at in range(5)]},
            Read(("2", "3", "4")),
        ),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, Read(())),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, Read(("a",))),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
            Read(("a",), acts=True),
        ),
        ({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}, Read(("a",), acts=True)),
        ({"messages": [{"role": "user", "content": "a"}], "tools": []}, Read(("a",))),
        ({"prompt": "Once"}, Read(("Once",))),
        ({"prompt": ["Once", "Twice"]}, Read(("Once", "Twice"))),
        ({"prompt": [1, 2, 3]}, Read(())),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, Read(("a",))),
        ({"messages": "words"}, Read(("words",))),
        ({"messages": [7, {"role": "user", "content": 7}, {"role": "user", "content": [{"type": "text"}]}]}, Read(())),
        ({"messages": 7}, Read(())),
        ({}, Read(())),
    ],
)
def test_only_what_users_said_last_is_looked_at(body: dict[str, Any], expected: Read) -> None:
    assert read(body) == expected
