"""A refusal as a page, for who was led here by a browser and not by a script."""

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.console.routes import HEADERS
from api.errors import describe_error
from api.record import record_of

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Stoker</title>
<link rel="icon" href="/console/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/console/style.css">
<link rel="stylesheet" href="/console/pages.css">
<script src="/console/theme.js"></script>
</head>
<body>
<main id="main" class="login">
<div class="login-card">
<h1>{title}</h1>
<p class="notice" role="alert">{message}</p>
<a class="button wide" href="/">{back}</a>
</div>
</main>
</body>
</html>
"""


def refusal(request: Request, error: Exception, title: str, back: str) -> Response:
    """The page, with the status that the error has everywhere.

    Args:
        back: what the link to the console says.

    Raises: the error: its caller asked for no page.
    """
    if "text/html" not in request.headers.get("accept", ""):
        raise error
    status, body, headers = describe_error(error, record_of(request))
    text = _PAGE.format(title=escape(title), message=escape(str(body["error"]["message"])), back=escape(back))
    return HTMLResponse(text, status, {**HEADERS, **headers, "cache-control": "no-store"})
