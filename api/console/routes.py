"""`/`, `/docs` and `/console/...`: the console's pages and files, with what a browser must not do with them."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.console.assets import PAGE, ROUTES_PAGE, Asset, read_assets

# No script but the gateway's own files runs, nothing is read from elsewhere or sent there, no page holds this one in a
# frame, and no text becomes markup: `trusted-types 'none'` lets no code of the page make HTML of a text.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",  # a browser asks each time, by the content's name, and mostly hears that it has it
    "vary": "accept-encoding",
}
"""What a browser must not do with a page of ours."""

_REFUSED = re.compile(r"q\s*=\s*0(?:\.0*)?")


def console_routes() -> list[BaseRoute]:
    """The pages and their files; whoever asks may have them: they hold nothing of anybody."""
    assets = read_assets()

    async def page(request: Request) -> Response:
        return _answer(assets[PAGE], request)

    async def docs(request: Request) -> Response:
        return _answer(assets[ROUTES_PAGE], request)

    async def file(request: Request) -> Response:
        asset = assets.get(request.path_params["path"])
        if asset is None:
            raise HTTPException(404)
        return _answer(asset, request)

    return [
        Route("/", page, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
        Route("/console/{path:path}", file, methods=["GET"]),
    ]


def _answer(asset: Asset, request: Request) -> Response:
    headers = {**HEADERS, "etag": asset.etag}
    known = [name.strip().removeprefix("W/") for name in request.headers.get("if-none-match", "").split(",")]
    if asset.etag in known:
        return Response(status_code=304, headers=headers)
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(asset.small, headers={**headers, "content-encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.body, headers=headers, media_type=asset.media_type)


def _takes_gzip(accepted: str) -> bool:
    """Whether a client takes it; `gzip;q=0` says that it does not."""
    for one in accepted.split(","):
        name, *about = (part.strip().lower() for part in one.split(";"))
        if name == "gzip":
            return not any(_REFUSED.fullmatch(part) for part in about)
    return False
