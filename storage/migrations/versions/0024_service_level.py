"""Hours of the service level, and how far each host's keeper has counted"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.create_table(
        "sla_hours",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "host", "route", name="pk_sla_hours"),
    )
    op.create_table(
        "sla_latencies",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("bound", sa.String(16), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "host", "route", "bound", name="pk_sla_latencies"),
    )
    op.create_table(
        "sla_checks",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("checks", sa.BigInteger(), nullable=False),
        sa.Column("good", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "host", name="pk_sla_checks"),
    )
    op.create_table(
        "sla_marks",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("looks", sa.BigInteger(), nullable=False),
        sa.Column("keeper", sa.String(64), nullable=False),
        sa.Column("folder", sa.String(64), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_sla_marks"),
    )


def downgrade() -> None:
    for table in ("sla_marks", "sla_checks", "sla_latencies", "sla_hours"):
        op.drop_table(table)
