"""Documents that are fetched: errands, when a host may be asked again, and where a document's bytes came from"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("documents", sa.Column("origin", sa.JSON()))
    op.create_table(
        "errands",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("document_id", sa.String(64)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("host", sa.String(255)),
        sa.Column("plan", sa.JSON()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("placed", sa.Integer(), nullable=False),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(100)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_errands_job_id_jobs"),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name="fk_errands_document_id_documents"),
        sa.PrimaryKeyConstraint("id", name="pk_errands"),
    )
    op.create_index("ix_errands_status_not_before", "errands", ["status", "not_before"])
    op.create_index("ix_errands_lease_until", "errands", ["lease_until"])
    op.create_index("ix_errands_job_id", "errands", ["job_id"])
    op.create_index("ix_errands_document_id", "errands", ["document_id"])
    op.create_table(
        "hosts",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_hosts"),
    )
    op.create_index("ix_hosts_next_at", "hosts", ["next_at"])


def downgrade() -> None:
    op.drop_table("hosts")
    op.drop_table("errands")
    op.drop_column("documents", "origin")
