"""When an experiment that was ended goes on"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("stopped_experiments", sa.Column("again_at", sa.Float()))


def downgrade() -> None:
    op.execute("DELETE FROM stopped_experiments WHERE again_at IS NOT NULL")
    op.drop_column("stopped_experiments", "again_at")
