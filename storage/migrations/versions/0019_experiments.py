"""Experiments that were ended"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "stopped_experiments",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("stopped_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_stopped_experiments"),
    )


def downgrade() -> None:
    op.drop_table("stopped_experiments")
