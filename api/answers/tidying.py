"""A question as it is searched and answered: without what nobody sees in it, and otherwise as it was asked."""

from unicodedata import normalize

from core.visible import visible
from retrieval.errors import InputInvalid


def tidied(text: str, most_characters: int) -> str:
    """The same text in Unicode's composed form (NFC), without invisible characters and white space at its ends.

    What a question speaks of is no business of this: orders, code and markup stay as they are.

    Raises: InputInvalid: it is too long, or nothing is left of it.
    """
    if len(text) > most_characters:
        raise InputInvalid(
            "query",
            f"A question has at most {most_characters:,} characters, and this one has {len(text):,}: ask for less, or "
            "put what it is about into a document (STOKER_ANSWER_QUESTION_CHARACTERS is the bound).",
        )
    # Composed before, so that no sign hides behind another form of it, and after, since neighbours may meet then.
    text = normalize("NFC", visible(normalize("NFC", text))).strip()
    if not text:
        raise InputInvalid("query", "The question is empty.")
    return text
