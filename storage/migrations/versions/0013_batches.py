"""Many requests in one file"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(length=64), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("user_id", sa.String(64)),
        sa.Column("endpoint", sa.String(100), nullable=False),
        sa.Column("input_file_id", sa.String(64), nullable=False),
        sa.Column("output_file_id", sa.String(64)),
        sa.Column("error_file_id", sa.String(64)),
        sa.Column("completion_window", sa.String(16), nullable=False),
        sa.Column("output_expires_after_s", sa.Integer()),
        sa.Column("metadata", sa.JSON()),
        sa.Column("acl", sa.JSON()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("ending", sa.String(16)),
        sa.Column("errors", sa.JSON()),
        sa.Column("model", sa.String(200)),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("usage", sa.JSON()),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(100)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("in_progress_at", sa.Float()),
        sa.Column("finalizing_at", sa.Float()),
        sa.Column("completed_at", sa.Float()),
        sa.Column("failed_at", sa.Float()),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("expired_at", sa.Float()),
        sa.Column("cancelling_at", sa.Float()),
        sa.Column("cancelled_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("swept_at", sa.Float()),
        sa.Index("ix_batches_tenant_id_owner_id", "tenant_id", "owner", "id"),
        sa.Index("ix_batches_ended_at", "ended_at"),
        sa.Index("ix_batches_swept_at", "swept_at"),
    )
    op.create_table(
        "batch_lines",
        sa.Column("batch_id", sa.String(length=64), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("custom_id", sa.String(512), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(100)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Index("ix_batch_lines_batch_id_status_number", "batch_id", "status", "number"),
        sa.Index("ix_batch_lines_status_lease_until", "status", "lease_until"),
    )


def downgrade() -> None:
    op.drop_table("batch_lines")
    op.drop_table("batches")
