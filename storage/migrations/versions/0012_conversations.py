"""What was said is kept: conversations, and answers of /v1/responses"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(length=64), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("title", sa.String(200)),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("local_only", sa.Boolean(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float()),
        sa.Index("ix_conversations_tenant_id_owner_id", "tenant_id", "owner", "id"),
        sa.Index("ix_conversations_deleted_at", "deleted_at"),
    )
    op.create_table(
        "conversation_items",
        sa.Column("conversation_id", sa.String(length=64), sa.ForeignKey("conversations.id"), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("item", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("conversation_id", "id", name="uq_conversation_items_conversation_id_id"),
    )
    op.create_table(
        "responses",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(length=64), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("previous_id", sa.String(64)),
        sa.Column("conversation_id", sa.String(64)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("local_only", sa.Boolean(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("response", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("deleted_at", sa.Float()),
        sa.Index("ix_responses_tenant_id_owner_id", "tenant_id", "owner", "id"),
        sa.Index("ix_responses_expires_at", "expires_at"),
    )


def downgrade() -> None:
    op.drop_table("responses")
    op.drop_table("conversation_items")
    op.drop_table("conversations")
