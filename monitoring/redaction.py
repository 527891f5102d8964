"""Takes out of a text what looks like a secret or like personal data, before it is shown to operators.

By patterns, so it finds what has a form: keys, tokens, passwords that are named so, addresses of e-mail, numbers of
telephones, cards and accounts. Names of persons have none.
"""

import re

_APART = r"(?<![A-Za-z0-9])"  # `\b` would take `_` for a letter, and NAME_PASSWORD for a word of its own
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "key",
        re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.S),
    ),
    ("token", re.compile(r"(?<![\w-])eyJ[\w-]{8,8000}\.[\w-]{8,8000}\.[\w-]{0,8000}")),
    (
        "key",
        re.compile(_APART + r"(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat|hf|AIza|AKIA|ASIA)[-_]?[A-Za-z0-9_-]{12,4000}"),
    ),
    ("token", re.compile(rf"(?i){_APART}bearer\s{{1,10}}[\w.~+/=-]{{8,8000}}")),
    (
        "secret",
        re.compile(
            rf"""(?i){_APART}(?:password|passwd|secret(?:_?access)?(?:_?key)?|token|api[_-]?key)["']?"""
            r"""\s{0,5}[:=]\s{0,5}["']?[^\s"',;]{3,4000}"""
        ),
    ),
    ("secret", re.compile(r"(?<=://)[^\s/:@]{0,200}:[^\s/@]{1,200}(?=@)")),
    ("address", re.compile(r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}\b")),
    ("account", re.compile(_APART + r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")),
)
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ()./-]{0,2}\d){6,18}(?![\w.]?\d)")
_CARD = range(13, 20)  # digits
_PHONE = range(9, 16)


def redacted(text: str, most: int) -> str:
    """The beginning of a text with `[key]`, `[address]` and so on in place of what was found; its length may change.

    Args:
        most: characters that are looked at, and at most told; a secret that the end cuts in two is told no half of.
    """
    if len(text) > most:
        text, _, _ = text[:most].rpartition(" ")
    for name, pattern in _RULES:
        text = pattern.sub(f"[{name}]", text)
    return _DIGITS.sub(_number, text)


def _number(found: re.Match[str]) -> str:
    """Ordinary figures stay: a number is a card's by its check digit, a telephone's by how it is written."""
    written = found[0]
    digits = [int(sign) for sign in written if sign.isdigit()]
    if len(digits) in _CARD and _luhn(digits):
        return "[card]"
    if len(digits) in _PHONE and (written[0] in "+(" or (written[0] == "0" and not written.isdigit())):
        return "[telephone]"
    return written


def _luhn(digits: list[int]) -> bool:
    """Source: ISO/IEC 7812-1, annex B."""
    doubled = [digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
