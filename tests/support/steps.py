"""What a migration does to a database that gateways of the version before go on using.

Read out of the statements that it sends to PostgreSQL.
"""

import re
from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script
from sqlalchemy.dialects import postgresql

_TABLE = r'(?:ONLY )?"?(\w+)"?'
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("drops a table", re.compile(rf"DROP TABLE {_TABLE}")),
    ("drops a column", re.compile(rf"ALTER TABLE {_TABLE} DROP COLUMN")),
    ("drops a constraint", re.compile(rf"ALTER TABLE {_TABLE} DROP CONSTRAINT")),
    ("renames", re.compile(rf"ALTER (?:TABLE|INDEX) {_TABLE}.* RENAME")),
    ("forbids null", re.compile(rf"ALTER TABLE {_TABLE} ALTER COLUMN \S+ SET NOT NULL")),
    ("changes a type", re.compile(rf"ALTER TABLE {_TABLE} ALTER COLUMN \S+ TYPE")),
    ("takes a default away", re.compile(rf"ALTER TABLE {_TABLE} ALTER COLUMN \S+ DROP DEFAULT")),
    ("adds what must be named", re.compile(rf"ALTER TABLE {_TABLE} ADD COLUMN (?!.*DEFAULT).*NOT NULL")),
    ("adds a constraint", re.compile(rf"ALTER TABLE {_TABLE} ADD CONSTRAINT (?!.*NOT VALID)")),
    ("demands what is unique", re.compile(rf"CREATE UNIQUE INDEX .*? ON {_TABLE}")),
    ("holds up writers for an index", re.compile(rf"CREATE INDEX (?!CONCURRENTLY).*? ON {_TABLE}")),
    ("changes rows", re.compile(rf"(?:UPDATE|DELETE FROM) {_TABLE}")),
)
_MADE = re.compile(rf"CREATE TABLE {_TABLE}")


def contracts(script: Script) -> set[str]:
    """The kinds of steps of which the version before, or its requests, may take notice; none: it only adds.

    What is done to tables that the migration itself makes is of no interest to anybody.
    """
    statements = list(_statements(script))
    made = {match[1] for statement in statements if (match := _MADE.search(statement))}
    return {
        kind
        for statement in statements
        for kind, pattern in _KINDS
        if (match := pattern.search(statement)) and match[1] not in made
    }


def _statements(script: Script) -> Iterator[str]:
    text = StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": text})
    context.impl.connection = SimpleNamespace(dialect=postgresql.dialect())  # type: ignore[assignment]  # asked for its name alone
    with Operations.context(context), context.begin_transaction():
        script.module.upgrade()
    return (" ".join(statement.split()) for statement in text.getvalue().split(";\n"))
