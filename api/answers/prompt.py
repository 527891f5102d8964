"""What the answering model is told. Sources are delimited and named as text to read, not to obey."""

from collections.abc import Sequence

from api.answers.context import Excerpt

PROMPT_CHARACTERS = 600  # more than all that stands around question and excerpts, of which there are at most 20


def messages(question: str, excerpts: Sequence[Excerpt]) -> list[dict[str, str]]:
    """The chat that asks for an answer. Short on purpose: small models follow one plain instruction, at the end."""
    sources = "\n\n".join(f"<text>\n{excerpt.text}\n</text>" for excerpt in excerpts)
    return [
        {
            "role": "user",
            "content": f"{sources}\n\nUsing only the text above, answer in one short sentence: {question}",
        }
    ]
