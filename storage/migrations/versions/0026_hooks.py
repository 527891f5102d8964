"""Hooks whose signed messages are taken, and the messages that were"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "hooks",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("collections", sa.JSON()),
        sa.Column("mark", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float()),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_hooks_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_hooks"),
    )
    op.create_index("ix_hooks_tenant_id_id", "hooks", ["tenant_id", "id"])
    op.create_table(
        "hook_messages",
        sa.Column("hook_id", sa.String(64), nullable=False),
        sa.Column("message_id", sa.String(256), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["hook_id"], ["hooks.id"], name="fk_hook_messages_hook_id_hooks"),
        sa.PrimaryKeyConstraint("hook_id", "message_id", name="pk_hook_messages"),
    )
    op.create_index("ix_hook_messages_at", "hook_messages", ["at"])


def downgrade() -> None:
    op.drop_table("hook_messages")
    op.drop_table("hooks")
