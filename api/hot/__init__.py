"""The hot path: model requests answered by raw ASGI, ahead of FastAPI."""
