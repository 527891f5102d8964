"""`./stoker ask`: the answer as it streams, then where it comes from."""

from typing import Any

from rich.markup import escape

from cli.client import Client, remedy_of
from cli.console import err, out
from cli.errors import CliError

PLAIN = {
    "the model's answer was not supported by its sources, so they are quoted": (
        "the model's own words were not backed by your documents, so the documents are quoted instead"
    ),
    "no sentence of the model's answer is supported by its sources": (
        "nothing of what the model said is backed by your documents"
    ),
    "no model is configured to answer": "no model is there to write an answer, so the documents are quoted instead",
    "question and max_tokens leave no room for sources in the model's window": (
        "the question is so long that the model has no room for documents, so the documents are quoted instead"
    ),
    "no passage matches the question": "nothing in the documents matches the question; `./stoker collections list` "
    "shows what there is to ask",
    "no passage speaks of the question": "nothing in the documents answers the question; ask with other words",
}
"""What the gateway says of an answer that is less than it could be, in words for whoever asked."""


def ask(client: Client, question: str, collection: str, model: str | None, *, as_json: bool = False) -> None:
    """Print the answer and its numbered sources.

    Args:
        as_json: print what the server says at the end, and nothing before.

    Raises: CliError: the server reported an error, or the stream ended before the answer did.
    """
    if not question.strip():
        raise CliError("the question is empty", 'ask something, such as ./stoker ask "Where are the logs?"')
    body: dict[str, Any] = {"query": question, "collection": collection, "stream": True}
    if model is not None:
        body["model"] = model
    printed = ""
    for event in client.stream("/v1/query", body):
        if event.name == "token" and not as_json:
            printed += event.data["text"]
            out.print(event.data["text"], end="", markup=False)
        elif event.name == "error":
            if not as_json:
                out.print()
            raise _failure(event.data)
        elif event.name == "done" and as_json:
            out.print_json(data=event.data)
            return
        elif event.name == "done":
            _finish(event.data, printed)
            return
    if not as_json:
        out.print()
    raise CliError("the answer broke off", "ask again; ./stoker logs gateway may say why")


def _finish(answer: dict[str, Any], printed: str) -> None:
    if printed.strip() != str(answer["answer"]).strip():
        # What streamed did not stand up to its sources and was replaced, or nothing streamed at all.
        if printed.strip():
            out.print("\n")
        out.print(answer["answer"], markup=False)
    else:
        out.print()
    if answer.get("degraded"):
        reasons = str(answer.get("degraded_reason") or "this answer is less than it could be").split("; ")
        err.print(f"[yellow]note:[/yellow] {escape('; '.join(PLAIN.get(reason, reason) for reason in reasons))}")
    citations = answer.get("citations") or []
    if citations:
        out.print("\nSources")
    for number, citation in enumerate(citations, 1):
        page = f", page {citation['page']}" if citation.get("page") is not None else ""
        span = f"characters {citation['start']} to {citation['end']}"
        out.print(f"  {number}. {citation['filename']}{page} ({span})", markup=False)
        out.print(f"     “{' '.join(str(citation['quote']).split())}”", markup=False, style="dim")


def _failure(data: Any) -> CliError:
    error = data.get("error", data) if isinstance(data, dict) else {}
    message = error.get("message") if isinstance(error, dict) else None
    remedy = remedy_of(error.get("code") if isinstance(error, dict) else None)
    return CliError(str(message or data), remedy or "./stoker status shows which part is away")
