"""What a request's words show of how hard it is, without any model."""

import re
from math import log1p

import numpy as np
from numpy.typing import NDArray

_HARD = (
    r"prov(?:e|ing)|proof|show that|deriv(?:e|ation)|theorem|justif\w*|beweis\w*|d[ée]montr\w*|demuestr\w*",
    r"design\w*|architect\w*|trade-?offs?|migrat\w*|threat|schema|entw(?:irf|urf)\w*|dise[ñn]\w*",
    r"debug\w*|race|deadlock\w*|leak\w*|hangs?|crash\w*|freezes?|intermittent\w*|concurren\w*|thread\w*|async\w*|lock\w*",
    r"optimi[sz]\w*|minimi[sz]\w*|maximi[sz]\w*|complexity|algorithm\w*|linear[- ]time|o\(\w|fewest|shortest|cheapest",
    r"probab\w*|expected|variance|significan\w*|bias|regression|sample|a/b|wahrscheinlich\w*|integer|primes?|digits?",
    r"tax\w*|liab\w*|clause|contract\w*|law\w*|legal\w*|tenan\w*|landlord|gdpr|steuer\w*|imp[ôo]t\w*|haft\w*|mg",
    r"dos(?:e|age|ing)|symptom\w*|diagnos\w*|pills?|blood|cough|pain|mg",
    r"at most|at least|no more than|without|must(?:n't| not)?|exactly|never|only if|each line|same rhyme",
    r"plan|roadmap|schedule|rota|strateg\w*|budget|allocat\w*|rotation",
    r"compar\w*|versus|vs|or|weigh|pros and cons|review|assess|critique|argue\w*|which would|should (?:i|we)|better",
    r"why|how would|what follows|is it ok|may (?:i|we)|can (?:i|my|we)|warum|pourquoi|por qu[ée]",
    r"poem|sonnet\w*|villanelle|story|speech|verse|handbook|palindrome|rhyme scheme|alexandrin\w*",
)
_EASY = (
    r"summari[sz]e|summary|tl;?dr|bullets?|shorter|shorten|zusammenfass\w*|r[ée]sum\w*|abstract|headline",
    r"translat\w*|[üu]bersetz\w*|tradui\w*|traduc\w*|in(?:to)? (?:german|french|spanish|english|italian)",
    r"what(?:'s| is| are| does| do)|who|when|where|which year|was ist|qu'est|quelle|qu[ée] es|wann|wo",
    r"extract|pull out|list|give me|name|names|count|how many|from the|out of this",
    r"rewrite|rephrase|fix|correct\w*|proofread|polite|nicer|grammar|corrige\w*|freundlich\w*|indent",
    r"convert|format|sort|upper ?case|lower ?case|csv|markdown|celsius|reverse|iso",
    r"classif\w*|label|sentiment|positive|spam|categor\w*|one word",
    r"e-?mail|mail|thank\w*|hi|hello|hey|hallo|reply|reminder|note|birthday|invitation",
    r"mean|means|meaning|stand for|synonym\w*|capital|difference|in simple words|plain words|explain",
    r"just|only|one line|two (?:lines?|sentences?)|short|briefly|one sentence|ten words|in plain|simple|simplest|quick",
    r"python|sql|bash|css|html|git|docker|pandas|regex|function|command",
)
_CUES = [re.compile(rf"(?<!\w)(?:{cue})(?!\w)", re.IGNORECASE) for cue in (*_HARD, *_EASY)]
_QUOTED = re.compile(r"```.*?```|\"[^\"]{25,}\"|“[^“”]{25,}”|«[^«»]{25,}»", re.DOTALL)
_BLANK = re.compile(r"\n[ \t]{0,99}\n")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SIGN = re.compile(r"[=^<>≤≥±√∑∫∞%²³→&]|\b(?:mod|log|sqrt|lim)\b")
_CODE = re.compile(
    r"[{};][ \t]{0,9}$|^[ \t]{0,99}(?:def|class|func|fn|import|public|#include)\b|=>|->|::|\w\(", re.M | re.I
)
_LONGEST = 4000  # characters that are looked at; every pattern takes time in proportion to them

COUNT = 14 + len(_CUES)


def asked_of(text: str) -> str:
    """The text without what is quoted in it: what is asked, rather than what it is asked about."""
    bare = _QUOTED.sub(" ", text)
    blocks = [block for block in _BLANK.split(bare) if block.strip()]
    if len(blocks) > 2:
        bare = f"{blocks[0]}\n{blocks[-1]}"
    return bare if bare.strip() else text


def traits_of(text: str) -> NDArray[np.float64]:
    """Float64[COUNT], each from 0 to about 3."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n\n{text[-_LONGEST // 2 :]}"
    asked = asked_of(text)
    words = asked.split()
    first = asked.strip().split("\n", 1)[0]
    figures = [
        log1p(len(text)) / 3,
        log1p(len(asked)) / 3,
        log1p(len(text) - len(asked)) / 3,
        log1p(len(first)) / 3,
        sum(map(len, words)) / max(1, len(words)) / 4,
        log1p(len(_NUMBER.findall(asked))),
        log1p(len(set(_NUMBER.findall(asked)))),
        log1p(len(_SIGN.findall(asked))),
        log1p(len(_CODE.findall(asked))),
        log1p(text.count("\n")),
        log1p(asked.count("?")),
        log1p(asked.count(",") + asked.count(";")),
        log1p(asked.count(".")),
        float(text[:1].islower()),
    ]
    return np.array(figures + [float(cue.search(asked) is not None) for cue in _CUES])
