"""Where text may go, by providers and regions, in the place of a yes or no"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_TABLES = ("tenants", "api_keys", "collections", "conversations", "responses")
_HOME = '{"providers": [], "regions": null}'


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("reach", sa.JSON(), nullable=True))
        here = sa.table(table, sa.column("reach", sa.JSON), sa.column("local_only", sa.Boolean))
        home = sa.literal_column(f"'{_HOME}'")
        op.execute(here.update().where(here.c.local_only.is_(sa.true())).values(reach=home))
        op.drop_column(table, "local_only")


def downgrade() -> None:
    """Whatever may not go everywhere goes nowhere."""
    for table in _TABLES:
        op.add_column(table, sa.Column("local_only", sa.Boolean(), nullable=False, server_default=sa.false()))
        here = sa.table(table, sa.column("reach", sa.JSON), sa.column("local_only", sa.Boolean))
        op.execute(here.update().where(here.c.reach.is_not(sa.null())).values(local_only=sa.true()))
        op.drop_column(table, "reach")
