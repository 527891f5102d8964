"""What the ledger refuses.

LedgerError
├── LedgerFull    no room is left in which a request could be accounted for
└── TooManyRows   a report would be longer than anybody reads
"""


class LedgerError(Exception):
    """The ledger refuses; the text is meant for the client."""


class LedgerFull(LedgerError): ...


class TooManyRows(LedgerError): ...
