"""Limits that all tenants share, and a ledger that is summed over all tenants"""

import sqlalchemy as sa
from alembic import op

from storage.schema import metadata

revision = "0008"
down_revision = "0007"
_NAMES = metadata.naming_convention


def upgrade() -> None:
    with op.batch_alter_table("limits", naming_convention=_NAMES) as batch_op:
        batch_op.drop_constraint("fk_limits_tenant_id", type_="foreignkey")
    op.create_index("ix_ledger_at", "ledger", ["at", "model_group", "route", "nano_usd"])


def downgrade() -> None:
    op.drop_index("ix_ledger_at", "ledger")
    limits = sa.table("limits", sa.column("tenant_id"))
    op.execute(limits.delete().where(limits.c.tenant_id == "*"))
    with op.batch_alter_table("limits", naming_convention=_NAMES) as batch_op:
        batch_op.create_foreign_key("fk_limits_tenant_id", "tenants", ["tenant_id"], ["id"])
