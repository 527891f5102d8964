"""Keys have a priority; what is asked for every second is found by an index"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INDEXES = (("users", "changed_at"), ("limits", "changed_at"), ("sessions", "revoked_at"), ("sessions", "expires_at"))


def upgrade() -> None:
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.add_column(sa.Column("priority", sa.String(length=16), nullable=False, server_default="normal"))
    for table, column in _INDEXES:
        op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table, column in _INDEXES:
        op.drop_index(f"ix_{table}_{column}", table)
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.drop_column("priority")
