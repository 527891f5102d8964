"""A collection says how it is answered from, and keeps each version of what a model is told"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    with op.batch_alter_table("collections") as batch_op:
        batch_op.add_column(sa.Column("answers", sa.JSON, nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("prompt_version", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "collection_prompts",
        sa.Column("collection_id", sa.String(length=64), sa.ForeignKey("collections.id"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(100), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("collection_prompts")
    with op.batch_alter_table("collections") as batch_op:
        batch_op.drop_column("prompt_version")
        batch_op.drop_column("answers")
