"""A thin typed client for Stoker's own routes; chats, embeddings and files are for OpenAI's own package."""

from stoker_client.client import Document, Stoker
from stoker_client.errors import Refused, StokerError, StreamBroken, Unreachable
from stoker_client.shapes import (
    Accepted,
    Answer,
    Citation,
    Cited,
    Collection,
    Done,
    Event,
    Found,
    Job,
    JobDocument,
    Passage,
    Retrieved,
    Token,
)

__all__ = [
    "Accepted",
    "Answer",
    "Citation",
    "Cited",
    "Collection",
    "Document",
    "Done",
    "Event",
    "Found",
    "Job",
    "JobDocument",
    "Passage",
    "Refused",
    "Retrieved",
    "Stoker",
    "StokerError",
    "StreamBroken",
    "Token",
    "Unreachable",
]
