"""Feedback on answers, and the index by which an answer's request is found"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("rating", sa.String(8), nullable=False),
        sa.Column("comment", sa.Text()),
        sa.Column("collection_id", sa.String(64)),
        sa.Column("model_group", sa.String(200), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_feedback_tenant_id_tenants"),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"], name="fk_feedback_collection_id_collections"),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.UniqueConstraint("tenant_id", "request_id", "who", name="uq_feedback_tenant_id_request_id_who"),
    )
    op.create_index("ix_feedback_tenant_id_id", "feedback", ["tenant_id", "id"])
    op.create_index("ix_feedback_tenant_id_created_at", "feedback", ["tenant_id", "created_at"])
    asked = "ix_ledger_tenant_id_asked", "ledger", ["tenant_id", sa.text("substr(request_id, 26)")]
    if op.get_bind().dialect.name == "postgresql":  # gateways go on writing while it is built
        with op.get_context().autocommit_block():
            op.create_index(*asked, postgresql_concurrently=True, if_not_exists=True)
    else:
        op.create_index(*asked)


def downgrade() -> None:
    op.drop_index("ix_ledger_tenant_id_asked", "ledger")
    op.drop_table("feedback")
