"""Errors as clients see them: the tree of the gateway's own, and the one table for all of them.

ApiError
├── NotAuthenticated    no key, or one that is not live
│   ├── SessionEnded        the cookie's session is unknown or over
│   ├── LoginRefused        the identity provider, or what it says, does not let this user in
│   └── SignatureRefused    a message that no live hook's secret signed, or that is stale
├── CsrfFailed          a session's request that its own page did not send
├── ProviderFailed      the identity provider refuses this gateway
├── NotAllowed          the role does not reach this route, this tenant, or what is to be granted
│   └── ScopeNotAllowed     the role does, but the key's scopes don't
├── RequestInvalid      the request is at fault; `param` names the field
│   ├── ConversationFull    no item fits into the conversation any more
│   └── ContextTooLong      what was said before is more than any model reads
├── NotSupportedYet     a field of the contract that this version cannot honour, so it refuses it
├── IdempotencyKeyReused    a key that came with another body before
├── IdempotencyUnavailable  whether a request was done before cannot be told now
├── BodyTooLarge
├── BodyTooSlow         the client did not send its body in time
├── RequestTooLong      the whole request passed its deadline
├── KeyNotFound, TenantNotFound, TeamNotFound, UserNotFound, LimitsNotFound, ProviderNotFound
├── ConversationNotFound, ItemNotFound, ResponseNotFound
│   └── PreviousNotFound    the response that a request goes on from
├── FileNotFound        no such file, or not one that the caller may read
├── NameTaken           another of the same kind has this name
├── FilterUnreadable    a filter was to be read from the question, and what was read is none
├── AnswerUnavailable   no answer, and no passage to quote instead
├── SocketNotFound      no WebSocket is there
├── UpgradeRequired     only a WebSocket is there
├── QuestionRunning     a socket answers one question at a time
├── BatchNotFound
├── DeploymentNotFound, ExperimentNotFound
├── RequestNotFound     no request of the caller's that stands in the ledger is named so
├── HookNotFound, WebhookNotFound, DeliveryNotFound
├── MessageReplayed     a signed message that was taken already
├── BatchOver           nothing is left of it to be cancelled
├── TooManyBatches      too many have not ended yet
└── SettingsRefused     at start only

Errors of the packages below (`RetrievalError`, `RouterError`, `DependencyError`, `AdmissionError`, `LedgerError`) know
nothing of HTTP; `TABLE` says what each means here. An error that stands nowhere in it is answered by a plain 500 and
logged with its trace.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.admission import errors as admission
from api.ledger import errors as ledger
from api.record import record_of
from core.dependency import DependencyError
from monitoring.logs import logger
from monitoring.record import RequestRecord
from retrieval import errors as retrieval
from router import errors as router

_log = logger(__name__)


class ApiError(Exception):
    """The gateway refuses a request; the text is meant for the client."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotAuthenticated(ApiError): ...


class SessionEnded(NotAuthenticated): ...


class LoginRefused(NotAuthenticated): ...


class SignatureRefused(NotAuthenticated): ...


class CsrfFailed(ApiError): ...


class ProviderFailed(ApiError): ...


class NotAllowed(ApiError): ...


class ScopeNotAllowed(NotAllowed): ...


class RequestInvalid(ApiError): ...


class ConversationFull(RequestInvalid): ...


class ContextTooLong(RequestInvalid): ...


class NotSupportedYet(ApiError): ...


class IdempotencyKeyReused(ApiError): ...


class IdempotencyUnavailable(ApiError): ...


class BodyTooLarge(ApiError): ...


class BodyTooSlow(ApiError): ...


class RequestTooLong(ApiError): ...


class KeyNotFound(ApiError): ...


class TenantNotFound(ApiError): ...


class TeamNotFound(ApiError): ...


class UserNotFound(ApiError): ...


class LimitsNotFound(ApiError): ...


class ProviderNotFound(ApiError): ...


class ConversationNotFound(ApiError): ...


class ItemNotFound(ApiError): ...


class ResponseNotFound(ApiError): ...


class PreviousNotFound(ResponseNotFound): ...


class FileNotFound(ApiError):
    def __init__(self, file_id: str) -> None:
        super().__init__(f"there is no file {file_id[:100]!r}")


class NameTaken(ApiError): ...


class FilterUnreadable(ApiError): ...


class AnswerUnavailable(ApiError): ...


class SocketNotFound(ApiError): ...


class UpgradeRequired(ApiError): ...


class QuestionRunning(ApiError): ...


class BatchNotFound(ApiError): ...


class DeploymentNotFound(ApiError): ...


class ExperimentNotFound(ApiError): ...


class RequestNotFound(ApiError): ...


class HookNotFound(ApiError): ...


class WebhookNotFound(ApiError): ...


class DeliveryNotFound(ApiError): ...


class MessageReplayed(ApiError): ...


class BatchOver(ApiError): ...


class TooManyBatches(ApiError): ...


class SettingsRefused(ApiError): ...


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error class means over HTTP.

    Attributes:
        type: OpenAI's error type, on which the SDKs choose their exception together with the status.
        code: the machine's word for it, stable.
        level: of the log line.
        retryable: False: the same request will fail again. SDKs ask again by themselves after 408, 409, 429 and 5xx,
            and wait for as long as `retry-after` says, be it a day; so they are told not to.
    """

    status: int
    type: str
    code: str
    level: int = logging.INFO
    retryable: bool = True


_INVALID = "invalid_request_error"
_UNAVAILABLE = "service_unavailable"

TABLE: Mapping[type[Exception], Meaning] = {
    NotAuthenticated: Meaning(401, "authentication_error", "invalid_api_key"),
    SessionEnded: Meaning(401, "authentication_error", "session_ended"),
    LoginRefused: Meaning(401, "authentication_error", "login_refused"),
    SignatureRefused: Meaning(401, "authentication_error", "signature_refused"),
    CsrfFailed: Meaning(403, "permission_error", "csrf_failed"),
    ProviderFailed: Meaning(502, "upstream_error", "provider_failed", logging.ERROR),
    NotAllowed: Meaning(403, "permission_error", "role_not_allowed"),
    ScopeNotAllowed: Meaning(403, "permission_error", "scope_not_allowed"),
    RequestInvalid: Meaning(400, _INVALID, "invalid_request"),
    ConversationFull: Meaning(400, _INVALID, "conversation_full"),
    ContextTooLong: Meaning(400, _INVALID, "context_length_exceeded"),
    NotSupportedYet: Meaning(400, _INVALID, "not_supported_yet"),
    IdempotencyKeyReused: Meaning(422, _INVALID, "idempotency_key_reused"),
    IdempotencyUnavailable: Meaning(503, _UNAVAILABLE, "idempotency_unavailable", logging.WARNING),
    BodyTooLarge: Meaning(413, _INVALID, "body_too_large"),
    admission.LimitReached: Meaning(429, "rate_limit_error", "rate_limit_exceeded"),
    admission.BudgetReached: Meaning(429, "insufficient_quota", "insufficient_quota", retryable=False),
    admission.KeyStale: Meaning(503, _UNAVAILABLE, "key_changing"),
    BodyTooSlow: Meaning(408, _INVALID, "body_too_slow"),
    RequestTooLong: Meaning(504, "server_error", "request_too_long", logging.WARNING, retryable=False),
    KeyNotFound: Meaning(404, _INVALID, "key_not_found"),
    TenantNotFound: Meaning(404, _INVALID, "tenant_not_found"),
    TeamNotFound: Meaning(404, _INVALID, "team_not_found"),
    UserNotFound: Meaning(404, _INVALID, "user_not_found"),
    LimitsNotFound: Meaning(404, _INVALID, "limits_not_found"),
    ProviderNotFound: Meaning(404, _INVALID, "provider_not_found"),
    ConversationNotFound: Meaning(404, _INVALID, "conversation_not_found"),
    ItemNotFound: Meaning(404, _INVALID, "item_not_found"),
    ResponseNotFound: Meaning(404, _INVALID, "response_not_found"),
    PreviousNotFound: Meaning(404, _INVALID, "previous_response_not_found"),
    FileNotFound: Meaning(404, _INVALID, "file_not_found"),
    NameTaken: Meaning(409, _INVALID, "name_taken", retryable=False),
    FilterUnreadable: Meaning(422, _INVALID, "filter_unreadable"),
    AnswerUnavailable: Meaning(503, _UNAVAILABLE, "answer_unavailable", logging.WARNING),
    SocketNotFound: Meaning(404, _INVALID, "not_found"),
    UpgradeRequired: Meaning(426, _INVALID, "upgrade_required"),
    QuestionRunning: Meaning(409, _INVALID, "question_running", retryable=False),
    BatchNotFound: Meaning(404, _INVALID, "batch_not_found"),
    ExperimentNotFound: Meaning(404, _INVALID, "experiment_not_found"),
    DeploymentNotFound: Meaning(404, _INVALID, "deployment_not_found"),
    RequestNotFound: Meaning(404, _INVALID, "request_not_found"),
    HookNotFound: Meaning(404, _INVALID, "hook_not_found"),
    WebhookNotFound: Meaning(404, _INVALID, "webhook_not_found"),
    DeliveryNotFound: Meaning(404, _INVALID, "delivery_not_found"),
    MessageReplayed: Meaning(409, _INVALID, "message_replayed", retryable=False),
    BatchOver: Meaning(409, _INVALID, "batch_over", retryable=False),
    TooManyBatches: Meaning(429, "rate_limit_error", "too_many_batches", retryable=False),
    SettingsRefused: Meaning(500, "server_error", "settings_refused", logging.ERROR),
    DependencyError: Meaning(503, _UNAVAILABLE, "part_unavailable", logging.WARNING),
    ledger.LedgerFull: Meaning(503, _UNAVAILABLE, "ledger_full", logging.ERROR),
    ledger.TooManyRows: Meaning(400, _INVALID, "too_many_rows"),
    retrieval.CollectionNotFound: Meaning(404, _INVALID, "collection_not_found"),
    retrieval.CollectionExists: Meaning(409, _INVALID, "collection_exists", retryable=False),
    retrieval.CollectionShared: Meaning(403, "permission_error", "collection_shared"),
    retrieval.CollectionMoved: Meaning(409, _INVALID, "collection_moved"),
    retrieval.CollectionExpired: Meaning(409, _INVALID, "collection_expired", retryable=False),
    retrieval.ReindexRunning: Meaning(409, _INVALID, "reindex_running", retryable=False),
    retrieval.ReindexNotFound: Meaning(404, _INVALID, "reindex_not_found"),
    retrieval.EvaluationNotFound: Meaning(404, _INVALID, "evaluation_not_found"),
    retrieval.DocumentNotFound: Meaning(404, _INVALID, "document_not_found"),
    retrieval.DocumentTaken: Meaning(409, _INVALID, "document_taken", retryable=False),
    retrieval.JobNotFound: Meaning(404, _INVALID, "job_not_found"),
    retrieval.InputInvalid: Meaning(400, _INVALID, "invalid_request"),
    retrieval.FilterInvalid: Meaning(400, _INVALID, "filter_invalid"),
    retrieval.AddressRefused: Meaning(400, _INVALID, "address_refused"),
    retrieval.FetchFailed: Meaning(502, "upstream_error", "fetch_failed", retryable=False),
    retrieval.FetchPostponed: Meaning(503, _UNAVAILABLE, "fetch_postponed"),
    retrieval.ErrandLost: Meaning(409, _INVALID, "errand_lost", logging.WARNING),
    retrieval.DocumentRejected: Meaning(400, _INVALID, "document_rejected"),
    retrieval.SpaceMismatch: Meaning(409, _INVALID, "embedding_space_mismatch", logging.WARNING, retryable=False),
    retrieval.SpaceHosted: Meaning(400, _INVALID, "embedding_model_hosted"),
    retrieval.SpaceRefused: Meaning(409, _INVALID, "embedding_model_refused", logging.WARNING, retryable=False),
    retrieval.IndexRefused: Meaning(500, "server_error", "index_refused", logging.ERROR),
    retrieval.LeaseLost: Meaning(409, _INVALID, "lease_lost", logging.WARNING),
    router.ConfigInvalid: Meaning(500, "server_error", "configuration_invalid", logging.ERROR),
    router.ModelNotFound: Meaning(404, _INVALID, "model_not_found"),
    router.GuardRefused: Meaning(400, _INVALID, "guard_refused"),
    router.MediaRefused: Meaning(400, _INVALID, "media_refused"),
    router.GuardFailed: Meaning(503, _UNAVAILABLE, "guard_failed", logging.ERROR),
    router.NoDeployment: Meaning(503, _UNAVAILABLE, "no_deployment", logging.WARNING),
    router.LeavesTheHouse: Meaning(403, "permission_error", "text_may_not_leave", retryable=False),
    router.Overloaded: Meaning(503, _UNAVAILABLE, "overloaded", logging.WARNING),
    router.UpstreamFailed: Meaning(502, "upstream_error", "upstream_failed", logging.WARNING),
    router.AnswerDiverged: Meaning(502, "upstream_error", "answer_diverged", logging.WARNING),
    router.UpstreamUnavailable: Meaning(503, _UNAVAILABLE, "upstream_unavailable", logging.WARNING),
    router.UpstreamTimeout: Meaning(504, "upstream_error", "upstream_timeout", logging.WARNING),
}


def meaning_of(error: Exception) -> Meaning | None:
    """Find the error's row: its own class's, or that of the nearest class above it."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), None)


def envelope(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error body; a lone surrogate that a client sent would make it no UTF-8."""
    message = message.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers for any error; what is not in the table stays secret and becomes a 500."""
    if isinstance(error, router.UpstreamRefused):
        return error.status, {"error": error.error}, _retry_header(error)
    meaning = meaning_of(error)
    if meaning is None:
        return 500, envelope("Stoker failed on this request; its log holds the reason", "server_error", "internal"), {}
    body = envelope(str(error), meaning.type, meaning.code, getattr(error, "param", None))
    headers = _retry_header(error)
    if not meaning.retryable or (isinstance(error, admission.LimitReached) and error.retry_after_s is None):
        headers["x-should-retry"] = "false"
    if meaning.status == 401:
        headers["www-authenticate"] = "Bearer"
    if meaning.status == 426:
        headers |= {"upgrade": "websocket", "connection": "upgrade"}
    return meaning.status, body, headers


def describe_error(error: Exception, record: RequestRecord) -> tuple[int, dict[str, Any], dict[str, str]]:
    """As `describe`, and noted in the record and, where it matters, in the log."""
    status, body, headers = describe(error)
    record.error_code = body["error"].get("code")
    meaning = meaning_of(error)
    if meaning is None and status == 500:
        _log.error("unexpected error", request_id=record.request_id, exc_info=error)
    elif meaning is not None and meaning.level >= logging.WARNING:
        _log.log(
            meaning.level,
            "refused",
            request_id=record.request_id,
            reason=getattr(error, "reason", str(error)),
            cause=None if error.__cause__ is None else repr(error.__cause__)[:300],
        )
    return status, body, headers


async def answer_error(request: Request, error: Exception) -> Response:
    """The handler of every error."""
    status, body, headers = describe_error(error, record_of(request))
    return JSONResponse(body, status, headers)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the same envelope."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    messages = {
        404: ("not_found", f"there is no route {request.method} {request.url.path}; /docs lists them"),
        405: ("method_not_allowed", f"{request.url.path} does not take {request.method}; /docs lists what it takes"),
    }
    code, message = messages.get(status, ("invalid_request", str(getattr(error, "detail", ""))))
    record_of(request).error_code = code
    return JSONResponse(envelope(message, _INVALID, code), status, headers)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """A body or parameter of the wrong shape: 400 with the first field at fault, as OpenAI does."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    first: dict[str, Any] = problems[0] if problems else {"loc": (), "msg": "the request is malformed", "type": ""}
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    if first["type"] == "json_invalid":
        param, message = None, "the body is no JSON"
    elif first["type"] in _NO_OBJECT and param is None:
        message = _why_no_object(request)
    else:
        message = f"{param}: {first['msg']}" if param else str(first["msg"])
    record_of(request).error_code = "invalid_request"
    return JSONResponse(envelope(message, _INVALID, "invalid_request", param), 400)


_NO_OBJECT = ("model_attributes_type", "dict_type")  # pydantic's words for what is neither an object nor a mapping


def _why_no_object(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.partition("/")[0] == "application" and kind.rpartition("/")[2].rpartition("+")[2] == "json":
        return "the body is to be a JSON object"
    return "the body is not read as JSON: send the header `Content-Type: application/json`"


def _retry_header(error: Exception) -> dict[str, str]:
    seconds = getattr(error, "retry_after_s", None)
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(seconds)))}
