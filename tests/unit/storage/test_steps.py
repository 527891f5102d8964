"""Migrations only add: gateways of the version before go on working beside those of the next.

What takes something away comes a release later than the code that has stopped using it, and is listed here with the
reason why nobody is harmed.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from tests.support.process import ROOT
from tests.support.steps import contracts

_BEFORE_RELEASES = "made before the first release, when nobody had a stack to upgrade beside"
_SMALL = "the table is as small as there are {}, so that nobody waits"
_CONTRACTS: dict[str, dict[str, str]] = {
    "0002": {
        "adds a constraint": _BEFORE_RELEASES,
        "holds up writers for an index": _SMALL.format("keys"),
    },
    "0003": {"holds up writers for an index": _BEFORE_RELEASES},
    "0005": {"holds up writers for an index": _BEFORE_RELEASES},
    "0008": {
        "drops a constraint": "a limit of no tenant is new: code of before writes none",
        "holds up writers for an index": _BEFORE_RELEASES,
    },
    "0009": {"holds up writers for an index": _BEFORE_RELEASES},
    "0011": {"holds up writers for an index": _BEFORE_RELEASES},
    "0018": {"drops a column": _BEFORE_RELEASES, "changes rows": _BEFORE_RELEASES},
    "0021": {"drops a column": _BEFORE_RELEASES, "changes rows": _BEFORE_RELEASES},
    "0027": {
        "changes rows": "a column that it has just added: code of before does not know it",
        "holds up writers for an index": _SMALL.format("jobs"),
    },
}


def _scripts() -> list[Script]:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "storage" / "migrations"))
    return list(ScriptDirectory.from_config(config).walk_revisions())[::-1]


@pytest.mark.parametrize("script", _scripts()[1:], ids=lambda script: script.revision)
def test_a_migration_only_adds_or_is_listed_with_its_reason(script: Script) -> None:
    assert contracts(script) == set(_CONTRACTS.get(script.revision, {}))


_STEPS = {
    "drops a table": lambda: op.drop_table("ledger"),
    "drops a column": lambda: op.drop_column("ledger", "status"),
    "renames": lambda: op.alter_column("ledger", "status", new_column_name="state"),
    "forbids null": lambda: op.alter_column("ledger", "ttft_ms", nullable=False),
    "changes a type": lambda: op.alter_column("ledger", "status", type_=sa.BigInteger()),
    "takes a default away": lambda: op.alter_column("ledger", "nano_usd_saved", server_default=None),
    "adds what must be named": lambda: op.add_column("ledger", sa.Column("host", sa.String(9), nullable=False)),
    "adds a constraint": lambda: op.create_check_constraint("ck_ledger", "ledger", "status > 0"),
    "drops a constraint": lambda: op.drop_constraint("fk_limits_tenant_id", "limits"),
    "demands what is unique": lambda: op.create_index("ix_l", "ledger", ["at"], unique=True),
    "holds up writers for an index": lambda: op.create_index("ix_l", "ledger", ["at"]),
    "changes rows": lambda: op.execute("UPDATE ledger SET status = 0"),
}


def _made_of(step: object) -> Script:
    return Script(SimpleNamespace(upgrade=step, __doc__="x", down_revision=None), "9999", str(Path("x")))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", _STEPS)
def test_each_step_that_takes_something_away_is_seen(kind: str) -> None:
    assert contracts(_made_of(_STEPS[kind])) == {kind}


def test_what_only_adds_is_seen_as_that() -> None:
    def add() -> None:
        op.create_table(
            "new", sa.Column("id", sa.String(9), primary_key=True), sa.Column("n", sa.Integer, nullable=False)
        )
        op.create_index("ix_new", "new", ["n"], unique=True)
        op.add_column("ledger", sa.Column("host", sa.String(9)))
        op.add_column("ledger", sa.Column("seen", sa.Boolean, nullable=False, server_default=sa.false()))
        with op.get_context().autocommit_block():
            op.create_index("ix_l", "ledger", ["at"], postgresql_concurrently=True)

    assert contracts(_made_of(add)) == set()
