"""A file as clients send it, and as they see it: OpenAI's `File`."""

import re
from typing import Any

from starlette.datastructures import FormData, UploadFile

from api.errors import BodyTooLarge, RequestInvalid
from api.files.store import NewFile, StoredFile
from api.multipart import from_text, only_text

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What a client may say that a file is for."""

MADE_PURPOSES = ("batch_output", "assistants_output", "fine-tune-results")
"""What a file that a client did not send may be for."""

_FIELDS = frozenset({"file", "purpose", "expires_after", "expires_after[anchor]", "expires_after[seconds]", "acl"})
_BATCH_LIFE_S = 30 * 86_400  # as with OpenAI, where nothing else is said


async def read_new_file(form: FormData, max_bytes: int) -> NewFile:
    """Take a form of POST /v1/files. Raises: RequestInvalid; BodyTooLarge: the file alone is too large."""
    if unknown := sorted(set(form) - _FIELDS):
        raise RequestInvalid(f"the form takes {', '.join(sorted(_FIELDS))}, not {unknown[0][:100]!r}", unknown[0][:100])
    parts = form.getlist("file")
    if len(parts) != 1 or not isinstance(parts[0], UploadFile):
        raise RequestInvalid("send one file in a field named file", "file")
    purpose = checked_purpose(only_text(form, "purpose"), PURPOSES)
    data = await parts[0].read()
    if len(data) > max_bytes:
        raise BodyTooLarge(f"the file has {len(data):,} bytes; the limit is {max_bytes:,}", "file")
    expires = _expires_after(form)
    if expires is None and purpose == "batch":
        expires = _BATCH_LIFE_S
    return NewFile(
        filename=parts[0].filename or "unnamed",
        purpose=purpose,
        data=data,
        media_type=parts[0].content_type,
        acl=from_text(only_text(form, "acl"), "acl"),
        expires_after_s=expires,
    )


def checked_purpose(purpose: str | None, known: tuple[str, ...]) -> str:
    """Raises: RequestInvalid: it is none of them."""
    if purpose not in known:
        raise RequestInvalid(f"purpose is one of {', '.join(known)}", "purpose")
    return purpose


def shown(file: StoredFile) -> dict[str, Any]:
    """The file as clients see it; `acl` is Stoker's own. A file is whole once it is there, so it is `processed`."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "acl": file.acl,
    }


def _expires_after(form: FormData) -> int | None:
    """Seconds, from the two fields that OpenAI's SDKs send, or from one of JSON as /v1/ingest takes it."""
    whole = from_text(only_text(form, "expires_after"), "expires_after")
    anchor, seconds = only_text(form, "expires_after[anchor]"), only_text(form, "expires_after[seconds]")
    if whole is None and anchor is None and seconds is None:
        return None
    if isinstance(whole, dict) and whole.keys() <= {"anchor", "seconds"} and anchor is None and seconds is None:
        anchor, number = whole.get("anchor"), whole.get("seconds")
    else:
        is_number = whole is None and seconds is not None and re.fullmatch(r"[0-9]{1,18}", seconds) is not None
        number = int(seconds or "") if is_number else None
    if type(number) is int and anchor in (None, "created_at"):
        return number
    raise RequestInvalid(
        "expires_after is said as expires_after[anchor]=created_at and expires_after[seconds]=3600", "expires_after"
    )
