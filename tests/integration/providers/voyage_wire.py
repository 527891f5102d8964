"""Voyage's embeddings.

Source: https://docs.voyageai.com/reference/embeddings-api
"""

from typing import Any

from aiohttp import web

from tests.integration.providers.wire import (
    USAGE,
    VECTORS,
    Fault,
    Refused,
    Seen,
    Wire,
    fits,
    header,
    no_header,
    posted,
)

_BODY = {
    "model": {"voyage-3.5"},
    "input": (str, [str]),
    "input_type?": {None, "query", "document"},
    "truncation?": bool,
    "output_dimension?": {256, 512, 1024, 2048},
    "output_dtype?": {"float", "int8", "uint8", "binary", "ubinary"},
    "encoding_format?": {None, "base64"},  # `float` is none of its words
}


class VoyageWire(Wire):
    name = "voyage"
    secret = "pa-voyage-88e0"
    key_header = "authorization"

    def entries(self) -> list[dict[str, Any]]:
        params = {"model": "voyage/voyage-3.5", "api_base": f"{self.url}/v1", "api_key": "os.environ/WIRE_VOYAGE"}
        return [{"model_name": "voyage-embed", "litellm_params": params, "model_info": {"mode": "embedding"}}]

    def environment(self) -> dict[str, str]:
        return {"WIRE_VOYAGE": self.secret}

    def admit(self, seen: Seen) -> str:
        posted(seen)
        header(seen, "authorization", f"Bearer {self.secret}", 401)
        no_header(seen, "api-key", "x-api-key")
        if seen.path != "/v1/embeddings":
            raise Refused(404, "Not Found")
        fits(seen.body, _BODY)
        return "embed"

    def error(self, status: int, message: str) -> web.Response:
        headers = {"retry-after": "9"} if status == 429 else None
        return web.json_response({"detail": message}, status=status, headers=headers)

    def refusal(self, fault: Fault) -> web.Response:
        match fault:
            case Fault.BAD_REQUEST:
                return self.error(400, "Value '7' supplied for argument 'output_dimension' is not valid.")
            case Fault.KEY:
                return self.error(401, "Provided API key is invalid.")
            case Fault.LIMIT:
                return self.error(429, "You have not yet added your payment method")
            case Fault.BUSY:
                return self.error(503, "The service is overloaded")
        return self.error(500, "An unexpected error occurred")

    def embedded(self, seen: Seen) -> web.Response:
        texts = seen.body["input"]
        found = VECTORS[: 1 if isinstance(texts, str) else len(texts)]
        rows = [{"object": "embedding", "embedding": vector, "index": at} for at, vector in enumerate(found)]
        usage = {"total_tokens": USAGE.prompt_tokens}
        return web.json_response({"object": "list", "data": rows, "model": "voyage-3.5", "usage": usage})
