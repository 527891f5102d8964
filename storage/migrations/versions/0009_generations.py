"""A collection's index has generations, so that it can be made anew, in another embedding space, while it answers"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("collections") as batch_op:
        batch_op.add_column(sa.Column("generation", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("local_only", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("revisions") as batch_op:
        batch_op.add_column(sa.Column("generation", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("twin_of", sa.String(length=64)))
        batch_op.add_column(sa.Column("ready_at", sa.Float()))
        batch_op.add_column(sa.Column("form", sa.JSON()))
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.add_column(sa.Column("generation", sa.Integer()))
    op.create_index("ix_revisions_twin_of", "revisions", ["twin_of"])
    op.create_index("ix_tasks_document_id", "tasks", ["document_id"])
    op.create_table(
        "generations",
        sa.Column("collection_id", sa.String(length=64), sa.ForeignKey("collections.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("embedding_space", sa.String(length=200), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("chunking", sa.JSON(), nullable=False),
        sa.Column("average_terms", sa.Float(), nullable=False),
        sa.Column("pool", sa.String(length=200)),
        sa.Column("chunks", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("terms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("hold_until", sa.Float()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("retired_at", sa.Float()),
        sa.Column("swept_at", sa.Float()),
        sa.Index("ix_generations_retired_at", "retired_at"),
    )
    op.create_table(
        "coming_frequencies",
        sa.Column("collection_id", sa.String(length=64), sa.ForeignKey("collections.id"), primary_key=True),
        sa.Column("term", sa.String(length=200), primary_key=True),
        sa.Column("chunks", sa.Integer(), nullable=False),
    )


def downgrade() -> None:
    op.execute("DELETE FROM tasks WHERE generation IS NOT NULL")
    op.execute("UPDATE revisions SET retired_at = created_at WHERE twin_of IS NOT NULL AND retired_at IS NULL")
    # What older versions know as a pool is where the rows of a later generation are.
    op.execute("UPDATE collections SET pool = id || '_g' || generation WHERE pool IS NULL AND generation > 0")
    op.drop_table("coming_frequencies")
    op.drop_table("generations")
    op.drop_index("ix_tasks_document_id", "tasks")
    op.drop_index("ix_revisions_twin_of", "revisions")
    for table, columns in (
        ("tasks", ("generation",)),
        ("revisions", ("generation", "twin_of", "ready_at", "form")),
        ("collections", ("generation", "local_only")),
    ):
        with op.batch_alter_table(table) as batch_op:
            for column in columns:
                batch_op.drop_column(column)
