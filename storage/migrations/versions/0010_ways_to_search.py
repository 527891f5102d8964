"""A collection has a language, and a way of its own to be searched"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("collections") as batch_op:
        batch_op.add_column(sa.Column("language", sa.String(30), nullable=False, server_default="english"))
        batch_op.add_column(sa.Column("search", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("collections") as batch_op:
        batch_op.drop_column("search")
        batch_op.drop_column("language")
