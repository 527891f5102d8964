"""Judged sets that are evaluated every day, and what came of it"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "daily_evaluations",
        sa.Column("collection_id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("questions", sa.JSON(), nullable=False),
        sa.Column("judged_by", sa.String(300), nullable=False),
        sa.Column("reach", sa.JSON(none_as_null=True)),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("last_id", sa.String(64)),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(100)),
        sa.Column("lease_until", sa.Float()),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_daily_evaluations_collection_id_collections"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_daily_evaluations_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("collection_id", name="pk_daily_evaluations"),
    )
    op.create_index("ix_daily_evaluations_due_at", "daily_evaluations", ["due_at"])
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("collection_id", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(2000)),
        sa.Column("result", sa.JSON(none_as_null=True)),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"], name="fk_evaluations_collection_id_collections"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_collection_id_id", "evaluations", ["collection_id", "id"])


def downgrade() -> None:
    op.drop_table("evaluations")
    op.drop_table("daily_evaluations")
