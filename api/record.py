"""The way from a request to its record."""

from starlette.requests import HTTPConnection

from monitoring.record import RequestRecord

SCOPE_KEY = "stoker.record"


def record_of(connection: HTTPConnection) -> RequestRecord:
    """The record that `api.middleware` began for this request."""
    record: RequestRecord = connection.scope[SCOPE_KEY]
    return record
