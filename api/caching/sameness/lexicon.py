"""Words of English questions: those that frame one, those that say of what kind it is, those that mean the same."""

from collections.abc import Callable, Iterable

_ASKING = "what|which|who|whom|whose|when|where|why|how"

# What is said around a question. Matched at its beginning, again and again, in lower case.
FRAMES = (
    r"(?:hi|hello|so|well|ok|okay)[,!](?: but)?",
    r"(?:hey|yo|ugh|um|sorry to bother you|excuse me|pray tell)\b[,!]?(?: but)?",
    r"(?:please|kindly)\b,?",
    r"(?:could|can|would|will) (?:you|somebody|someone|anybody|anyone)(?: please| kindly| perhaps| possibly)* "
    r"(?:tell|inform|explain|advise|remind|let|show)(?: to)?(?: me| us)?(?: know)?(?: of| about| on)?(?: the fact)?",
    r"(?:i|we) (?:would|should|'d) (?:like|love|be (?:most )?(?:grateful|interested|glad)) to "
    r"(?:know|understand|learn|ask|hear|find out)(?: about)?",
    r"(?:i|we) (?:was|were|am|are) wondering(?: whether| if)?(?: you (?:might|could|can)(?: perhaps)? tell me)?",
    r"(?:i|we) (?:want|wish|need|have) to (?:know|ask|understand|find out)(?: about)?",
    r"(?:does|do) (?:anyone|anybody|somebody|you) know",
    r"(?:do|can) you (?:happen to )?know",
    r"(?:just )?(?:tell|inform|remind) (?:me|us)(?: about| of)?",
    rf"(?:give|show|send|name|list) (?:me|us)(?= (?:{_ASKING}|the|a|an)\b)",
    rf"explain(?: to me| to us)?(?= (?:{_ASKING})\b)",
    r"(?:may|might) i (?:ask|enquire)",
    r"(?:it would be (?:nice|good|great) to know)",
    r"(?:whether|if)(?= (?:it|there|i|we|the|a|an|one|you|my|our|this|that)\b)(?!.*,)",
)
TAILS = r"[\s,.;:!?]*(?:please|thanks|thank you(?: very much)?|any idea|anyone)?[\s.!?;:,]*\Z"

# Phrases that one word may stand for, wherever they are.
PHRASES = (
    (r"prior to", "before"),
    (r"(?:subsequent to|following)(?= the\b)", "after"),
    (r"in order to", "to"),
    (r"(?:because of|due to|owing to|on account of)", "because"),
    (r"as well as", "and"),
    (r"at least (\S+)", r"\1 or more"),
    (r"no fewer than (\S+)", r"\1 or more"),
    (r"(?:turn|switch)(?:ed|ing|s|es)?((?: \w+){0,4}?) off", r"disable\1"),
    (r"(?:turn|switch)(?:ed|ing|s|es)?((?: \w+){0,4}?) on(?= *$|[?.!])", r"enable\1"),
    (r"set up", "setup"),
    (r"log ?in", "login"),
    (r"get rid of", "remove"),
    (r"carry out", "perform"),
    (r"in the (?:event|case) of", "if"),
)

# Ways to begin a question that mean the same, each put as the plainest.
OPENINGS = (
    (r"(?:what (?:is|are) )?the (?:reason|reasons)(?: why| that| for which)|for what reasons?|how come", "why"),
    (r"what (?:exactly )?(?:is|are) the (?:way|method|procedure|steps?|process)(?: (?:to|of|for|in order to))?", "how"),
    (r"(?:steps|ways?|method|procedure|process|instructions) (?:to|for)", "how"),
    (r"how (?:to|(?:do|can) (?:i|we|you)|(?:does|can) one|could i|should i go about|would i|one)\b", "how"),
    (r"(?:at|by) what time|at what hour|on (?:what|which) (?:date|day)|what time", "when"),
    (r"(?:in|at|to) (?:what|which) place", "where"),
    (r"is it possible(?: for (?:me|us|one))? to", "possible"),
    (r"is it (?:allowed|permitted)(?: for (?:me|us|one))? to", "allowed"),
    (r"(?:am i|are we|is one) (?:allowed|permitted) to", "allowed"),
    (r"(?:am i|are we|is one) able to", "able"),
    (r"(?:am i|are we|is one) (?:obliged|required) to", "must"),
    (r"do (?:i|we|you) (?:have|need) to|does one have to", "must"),
    (r"what (?:kind|sort|type)s? of", "what"),
    (r"what does (?:the )?(?:term |word |phrase |expression )?(.+?) (?:mean|stand for)", r"what meaning of \1"),
    (r"how (?:is|are) (.+?) called", r"what name of \1"),
    (r"how much (?:does|do|did|would|will) (.+?) cost", r"what price of \1"),
    (r"what (?:does|do|did|would|will) (.+?) cost", r"what price of \1"),
)

WH = frozenset("what who whom whose when where why how".split())
AUXILIARIES = frozenset(
    """possible allowed able is are am was were do does did can could may might must shall should will would has have
    had""".split()
)

MARKERS = {
    **dict.fromkeys("can could may might".split(), "can"),
    **dict.fromkeys("able possible possibly".split(), "able"),
    **dict.fromkeys("allowed permitted".split(), "allowed"),
    **dict.fromkeys("must obliged required compulsory mandatory obligatory".split(), "must"),
    **dict.fromkeys("should ought shall".split(), "should"),
    **dict.fromkeys("will would".split(), "will"),
    **dict.fromkeys("was were did had".split(), "past"),
    **dict.fromkeys("has have".split(), "have"),
    "been": "been",
    "being": "being",
}

DROPPED = frozenset(
    """the a an is are am be do does i we you one me us my our your mine ours yours it its there this these here
    please really exactly actually just any anyway kindly currently now so then very quite normally usually
    that those""".split()
)

PERSONS = {
    **dict.fromkeys("i we me us my our mine ours".split(), "i"),
    **dict.fromkeys("you your yours".split(), "you"),
}

# What stands before a part of a question and says how it belongs to the rest.
HEADS = frozenset(
    """of in on at to from into onto by with without for about regarding concerning under over between during after
    before since until till through throughout against toward towards than as via across above below beyond near off
    behind within per when if while because unless although though once where except but""".split()
)
HEADS_LIKE = {
    "till": "until", "towards": "toward", "regarding": "about", "concerning": "about", "onto": "on", "except": "but",
}  # fmt: skip

# Each line: words that one may stand for the other in a question, whatever it is about.
_SYNONYMS = """
begin start commence
end finish
buy purchase
purchase acquire
delete remove erase
disable deactivate
picture photo photograph
phone telephone
mobile cellphone
movie film
car automobile
bike bicycle
fast quick rapid speedy
big large
small little tiny
expensive costly
cheap inexpensive
price cost
company firm business
employee worker
boss manager
customer client
salary wage pay
holiday vacation
doctor physician
child kid
children kids
mum mother
dad father
apartment flat
lift elevator
lorry truck
error fault
fix repair mend
broken defective
get obtain receive
need require
let allow permit
ask request
help assist
send mail
show display
choose select pick
keep retain
change alter modify
check verify
happen occur
contain include
use utilise utilize
prior earlier
maximum max
minimum min
information info
administrator admin
advertisement ad
laboratory lab
department dept
account acct
approximately roughly about
television tv
internet web
password passcode
login signin
setup configure
false untrue
closed shut
autumn fall
petrol gasoline
rubbish garbage trash
trousers pants
queue line
tap faucet
nappy diaper
prescribe mandate
duration length
deadline due
illness sickness disease
medicine medication drug
remuneration compensation
cellar basement
sidewalk pavement
fridge refrigerator
notebook laptop
begin launch
usd dollar
eur euro
"""

ABBREVIATIONS = {
    "vat": "value added tax", "etc": "", "approx": "approximately", "dept": "department", "acct": "account",
    "apt": "apartment", "max": "maximum", "min.": "minimum", "no.": "number", "nr": "number", "temp": "temperature",
    "incl": "including", "excl": "excluding", "tel": "telephone", "mgmt": "management", "govt": "government",
    "w/o": "without", "w/": "with", "pls": "please", "plz": "please", "u": "you", "ur": "your", "r": "are",
    "gimme": "give me", "wanna": "want to", "gonna": "going to", "whats": "what is", "wheres": "where is",
    "hows": "how is", "whos": "who is", "cant": "can not", "dont": "do not", "doesnt": "does not", "wont": "will not",
    "isnt": "is not", "im": "i am", "ive": "i have",
}  # fmt: skip


def synonyms(stem: Callable[[str], str], lines: Iterable[str] = _SYNONYMS.strip().splitlines()) -> dict[str, str]:
    """From the stem of each word to that of the first of its line; a word of two lines belongs to the first."""
    found: dict[str, str] = {}
    for line in lines:
        first, *others = [stem(word) for word in line.split()]
        first = found.get(first, first)
        for other in others:
            found.setdefault(other, first)
    return found
