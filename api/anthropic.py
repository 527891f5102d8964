"""Errors in Anthropic's form, which the clients of `/v1/messages` know.

Source: https://platform.claude.com/docs/en/api/errors
"""

from typing import Any

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",  # Anthropic's own status for it is 529, which balancers and other clients do not know
    504: "timeout_error",
}


def error_type(status: int) -> str:
    """Anthropic's word for a status."""
    return _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def envelope(status: int, error: dict[str, Any], request_id: str) -> dict[str, Any]:
    """Anthropic's error body; the SDKs show `details.error_code`, where our code goes, as `error_code`.

    Args:
        error: OpenAI's error object.
    """
    shown = {"type": error_type(status), "message": error["message"], "details": {"error_code": error.get("code")}}
    return {"type": "error", "error": shown, "request_id": request_id}
