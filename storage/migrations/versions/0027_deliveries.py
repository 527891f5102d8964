"""Webhooks to which the ends of jobs are told; those that ended before are not told of"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("told_at", sa.Float()))
    op.execute("UPDATE jobs SET told_at = created_at")
    op.create_index("ix_jobs_told_at", "jobs", ["told_at"])
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.String(200), nullable=False),
        sa.Column("events", sa.JSON()),
        sa.Column("mark", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float()),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_endpoints_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
    )
    op.create_index("ix_endpoints_tenant_id_id", "endpoints", ["tenant_id", "id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("endpoint_id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Integer()),
        sa.Column("error", sa.String(500)),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float()),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name="fk_deliveries_endpoint_id_endpoints"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_status_next_at", "deliveries", ["status", "next_at"])
    op.create_index("ix_deliveries_endpoint_id_id", "deliveries", ["endpoint_id", "id"])
    op.create_index("ix_deliveries_ended_at", "deliveries", ["ended_at"])


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("endpoints")
    op.drop_index("ix_jobs_told_at", "jobs")
    op.drop_column("jobs", "told_at")
