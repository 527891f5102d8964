"""Run in the environment of the official SDKs: a plain client that knows the address and the key, nothing else.

Usage: python openai_client.py BASE_URL KEY; prints one JSON object.
"""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
seen: dict[str, object] = {"sdk": openai.__version__}
seen["models"] = sorted(model.id for model in client.models.list())
question = [{"role": "user", "content": "What is the capital of France?"}]

whole = client.chat.completions.create(model="smollm2-135m", messages=question, temperature=0, max_tokens=16)
seen["chat"] = whole.choices[0].message.content
seen["chat_tokens"] = whole.usage.completion_tokens

chunks = list(
    client.chat.completions.create(
        model="smollm2-135m",
        messages=question,
        temperature=0,
        max_tokens=16,
        stream=True,
        stream_options={"include_usage": True},
    )
)
seen["streamed"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
seen["streamed_tokens"] = chunks[-1].usage.completion_tokens

plain = list(client.chat.completions.create(model="smollm2-135m", messages=question, max_tokens=4, stream=True))
seen["usage_unasked"] = any(chunk.usage for chunk in plain) or any(not chunk.choices for chunk in plain)


def dot(left, right) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a cat", "a kitten", "a lorry"])
seen["dimensions"] = [len(item.embedding) for item in vectors.data]
cat, kitten, lorry = (item.embedding for item in vectors.data)
seen["nearer"] = dot(cat, kitten) > dot(cat, lorry)


def raised(call) -> str:
    try:
        call()
    except openai.APIError as error:
        return type(error).__name__
    return "nothing"


seen["unknown_model"] = raised(lambda: client.chat.completions.create(model="nope", messages=question))
seen["bad_request"] = raised(lambda: client.chat.completions.create(model="smollm2-135m", messages=[]))
stranger = openai.OpenAI(base_url=sys.argv[1], api_key="sk-stoker-wrong", max_retries=0)
seen["wrong_key"] = raised(lambda: stranger.models.list())
print(json.dumps(seen))
