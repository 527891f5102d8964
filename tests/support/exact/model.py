"""A deterministic "model": each token depends on the whole history before it, and on nothing else.

So an answer that was cut anywhere can be continued exactly, from its token ids or from its text, by any server of the
same model, and a test can tell in advance what the whole answer is. Three things are as in vLLM and easy to get wrong:
the end-of-turn token counts as generated, a character may be made of several tokens and comes with the last of them,
and with stop strings the text lags behind its tokens.
"""

import codecs
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

CONTEXT_TOKENS = 4096
BOS, EOS, SYSTEM, USER, ASSISTANT, TOOL, TOOLS = range(7)

_FIRST_BYTE = 8
_FIRST_WORD = _FIRST_BYTE + 256
_ROLES = {"system": SYSTEM, "developer": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}
_SPOKEN = [
    f" {word}"
    for word in """able about above across after again air all along always am an and animal answer any apple are
    around as ask at away back be bear because been before began begin being below between big bird blue boat body
    book both bread bring brown build but by call came can car cat change city clear close cloud cold come could
    count country cut dark day deep did different do does dog door down draw dream drop dry each early earth east eat
    egg else end enough even ever every eye face fall family far farm fast father feet few field fill find fire first
    fish five flat flow fly follow food for form found four free friend from full game gave get girl give glass go
    gold good grass great green ground group grow half hand hard harvest has hat have he head hear heart heat held
    help her here high hill him his hold home horse hot hour house how ice idea if in into iron is island it jump
    just keep kept kind king knew know lake lamp land large last late laugh lay lead leaf learn left less let life
    light like line listen little live long look lost low made make man many map may me mean meet might mile milk
    mind moon more most mother mountain move much music must my name near need never new next night no north not note
    now number of off often old on once one only open or other our out over own page paint paper part path piece
    place plain plan plant play point pull put question quick quiet rain ran reach read red rest rice ride right
    river road rock room round run said sail salt same sand saw say school sea second see seed seem set seven shall
    she ship shore short show side sing six sky sleep slow small snow so some song soon sound south spring stand star
    start stay step still stone stop story street strong such summer sun table take talk tall tell ten than that the
    their them then there these they thing think this those three through time to today together told too took top
    town trade tree true try turn two under until up us use valley very voice wait walk wall want warm was watch water
    way we week well went were west what wheat wheel when where which while white who why wide wild will wind window
    winter wish with wood word work world would write year yellow yes yet you young
    über café naïve Straße señor København łódź žena слово вода дом свет γάλα φως ψωμί 猫 犬 山 川 水 花 東京 안녕 물
    ирис déjà""".split()
]
_WORDS = list(dict.fromkeys([*_SPOKEN, *'{" "} ": ": " ", ", " 1 2 3 4 5 6 7 8 9'.split(" ")]))
_IDS = {word: _FIRST_WORD + at for at, word in enumerate(_WORDS)}
_LONGEST = max(map(len, _WORDS))
_SPLIT = [character.encode() for character in ("🦊", "ẞ", "§", "𝄞")]  # characters that only single bytes can make
_MASK = (1 << 64) - 1

Kind = Literal["text", "json", "tool"]


class Invalid(ValueError):
    """The request can't be answered; `param` is the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read.

    Attributes:
        prompt: token ids.
        kind: what the answer is made of; `tool` is the name of the function to call.
        stop: strings that end it, and are not part of it.
    """

    prompt: Sequence[int]
    max_tokens: int
    kind: Kind = "text"
    tool: str = ""
    stop: Sequence[str] = ()
    min_tokens: int = 0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token, the text that comes with it (possibly none yet), and why it was the last."""

    token: int
    text: str
    reason: str | None
    stop_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A whole answer."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    text: str
    reason: str
    tool: str

    @property
    def usage(self) -> dict[str, int]:
        """As OpenAI's `usage`."""
        return {
            "prompt_tokens": len(self.prompt),
            "total_tokens": len(self.prompt) + len(self.tokens),
            "completion_tokens": len(self.tokens),
        }


def encode(text: str) -> list[int]:
    """Token ids of a text: the longest word that fits, else single bytes."""
    found: list[int] = []
    at = 0
    while at < len(text):
        for length in range(min(_LONGEST, len(text) - at), 0, -1):
            token = _IDS.get(text[at : at + length])
            if token is not None:
                found.append(token)
                at += length
                break
        else:
            found += [_FIRST_BYTE + byte for byte in text[at].encode("utf-8", "replace")]
            at += 1
    return found


class Decoder:
    """Turns tokens into text as they come; a character that lacks bytes is held back.

    Args:
        prompt: what went before; a character that it leaves unfinished comes whole once it is.
    """

    def __init__(self, prompt: Sequence[int] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in prompt[-4:]:
            self.feed(token)

    def feed(self, token: int) -> str:
        return self._decoder.decode(_bytes_of(token))


def read_chat(body: dict[str, Any]) -> Asked:
    """Read a request to /v1/chat/completions. Raises: Invalid."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("1 validation error: messages: Field required", "body.messages")
    goes_on = bool(body.get("continue_final_message"))
    asks_anew = body.get("add_generation_prompt", True)
    if goes_on and asks_anew:
        raise Invalid("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    prompt = [BOS]
    tools = [tool["function"]["name"] for tool in body.get("tools") or []]
    if tools:
        prompt += [TOOLS, *encode(orjson.dumps(tools).decode()), EOS]
    for message in messages:
        prompt += [_ROLES[message["role"]], *encode(_text_of(message.get("content"))), EOS]
    if goes_on:
        prompt.pop()
    elif asks_anew:
        prompt.append(ASSISTANT)
    wanted = body.get("max_completion_tokens") or body.get("max_tokens")
    calls = bool(tools) and body.get("tool_choice") != "none"
    made = (body.get("response_format") or {}).get("type") in ("json_object", "json_schema")
    kind: Kind = "tool" if calls else "json" if made else "text"
    return _asked(body, prompt, wanted, kind, tools[_mixed(_hash("", prompt)) % len(tools)] if calls else "")


def read_completion(body: dict[str, Any]) -> Asked:
    """Read a request to /v1/completions; the prompt is a text, or token ids. Raises: Invalid."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return _asked(body, [BOS, *encode(prompt)], body.get("max_tokens", 16))
    if not isinstance(prompt, list) or not prompt or not all(isinstance(token, int) for token in prompt):
        raise Invalid("1 validation error: prompt: one text, or one list of token ids", "body.prompt")
    if not all(0 <= token < _FIRST_WORD + len(_WORDS) for token in prompt):
        raise Invalid("Token id is out of vocabulary", "prompt")
    return _asked(body, prompt, body.get("max_tokens", 16))


def generate(model: str, asked: Asked) -> Iterator[Step]:
    """The answer, token by token."""
    decoder = Decoder(asked.prompt)
    held, longest = "", max(map(len, asked.stop), default=1)
    for at, token in enumerate(_tokens(model, asked), 1):
        text = "" if token == EOS else decoder.feed(token)
        held += text
        reason = "stop" if token == EOS else "length" if at == asked.max_tokens else None
        met = min((word for word in asked.stop if word in held), key=held.index, default=None)
        if met is not None:
            yield Step(token, held[: held.index(met)], "stop", met)
            return
        # Text that may be the beginning of a stop string is held back, so it lags behind its tokens.
        free = len(held) if reason else max(0, len(held) - longest + 1)
        yield Step(token, held[:free], "tool_calls" if reason == "stop" and asked.kind == "tool" else reason)
        if reason:
            return
        held = held[free:]


def answer(model: str, asked: Asked) -> Told:
    """The whole answer at once: what a client must get, whatever fails on the way."""
    steps = list(generate(model, asked))
    text = "".join(step.text for step in steps)
    return Told(asked.prompt, [step.token for step in steps], text, steps[-1].reason or "", asked.tool)


def _tokens(model: str, asked: Asked) -> Iterator[int]:
    """What the model says, without end unless it ends."""
    state = _hash(model, asked.prompt)
    if asked.kind != "text":
        yield from encode(_json(state))
        yield EOS
        return
    tail = list(asked.prompt[-4:])
    since_turn = next((at for at, token in enumerate(reversed(asked.prompt)) if token <= TOOLS), len(asked.prompt))
    made = 0
    while True:
        token = _next(state, tail, since_turn)
        if token == EOS and (asked.ignore_eos or made < asked.min_tokens):
            token = _FIRST_WORD
        yield token
        state = _step(state, token)
        tail = [*tail[-3:], token]
        since_turn += 1
        made += 1


def _next(state: int, tail: Sequence[int], since_turn: int) -> int:
    begun = bytes(token - _FIRST_BYTE if _FIRST_BYTE <= token < _FIRST_WORD else 0 for token in tail)
    for whole in _SPLIT:
        for length in range(1, len(whole)):
            if begun.endswith(whole[:length]):
                return _FIRST_BYTE + whole[length]
    drawn = _mixed(state)
    if since_turn >= 12 and drawn % 37 == 0:
        return EOS
    if (drawn >> 8) % 100 < 8:
        return _FIRST_BYTE + _SPLIT[(drawn >> 16) % len(_SPLIT)][0]
    return _FIRST_WORD + (drawn >> 16) % len(_SPOKEN)


def _json(state: int) -> str:
    """A flat JSON object, as arguments of a call or as an answer."""
    fields: dict[str, Any] = {}
    for name in ("place", "reason", "other"):
        drawn = state = _mixed(state)
        fields[name] = "".join(_SPOKEN[(drawn >> shift) % len(_SPOKEN)] for shift in (0, 12, 24, 36)).strip()
    return orjson.dumps({**fields, "days": state % 90}).decode()


def _asked(body: dict[str, Any], prompt: list[int], wanted: Any, kind: Kind = "text", tool: str = "") -> Asked:
    length = len(prompt)
    room = CONTEXT_TOKENS - length
    if room < 1 or (wanted or 0) > room:
        message = (
            f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, you requested {wanted or 1} "
            f"output tokens and your prompt contains at least {length} input tokens. Please reduce one of them."
        )
        raise Invalid(message, "input_tokens" if room < 1 else "max_tokens")
    if wanted is not None and wanted < 1:
        raise Invalid(f"max_tokens must be at least 1, got {wanted}.", "max_tokens")
    if (body.get("n") or 1) != 1:
        raise Invalid("n must be 1", "n")
    stop = body.get("stop") or []
    return Asked(
        prompt,
        wanted or room,
        kind,
        tool,
        [stop] if isinstance(stop, str) else stop,
        body.get("min_tokens") or 0,
        bool(body.get("ignore_eos")),
    )


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _bytes_of(token: int) -> bytes:
    if token >= _FIRST_WORD:
        return _WORDS[token - _FIRST_WORD].encode()
    return bytes([token - _FIRST_BYTE]) if token >= _FIRST_BYTE else b""


def _hash(model: str, tokens: Sequence[int]) -> int:
    start = int.from_bytes(model.encode()[:32].ljust(8, b"\0"), "big") & _MASK
    return functools.reduce(_step, tokens, start)


def _step(state: int, token: int) -> int:
    return (state * 6364136223846793005 + (token + 1) * 1442695040888963407) & _MASK


def _mixed(state: int) -> int:
    """Splitmix64's last steps: a state's bits, well mixed."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
