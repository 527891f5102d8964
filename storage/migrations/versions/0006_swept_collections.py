"""A deleted collection leaves its row, so that what is written for it too late can be told from what is another's"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("collections") as batch_op:
        batch_op.add_column(sa.Column("swept_at", sa.Float()))


def downgrade() -> None:
    op.execute("DELETE FROM collections WHERE swept_at IS NOT NULL")
    with op.batch_alter_table("collections") as batch_op:
        batch_op.drop_column("swept_at")
