"""Responses: a chat in OpenAI's newer form, with what came before, functions and documents."""
