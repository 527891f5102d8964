"""Documents have readers, may expire, and change what is said of them without being indexed again"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("documents") as batch_op:
        batch_op.add_column(sa.Column("acl", sa.JSON()))
        batch_op.add_column(sa.Column("stale", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("expires_at", sa.Float()))
    with op.batch_alter_table("revisions") as batch_op:
        batch_op.add_column(sa.Column("fingerprint", sa.String(length=64)))
        batch_op.add_column(sa.Column("said", sa.String(length=64)))
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.add_column(sa.Column("creator", sa.String(length=64)))
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.add_column(sa.Column("metadata", sa.JSON()))
        batch_op.add_column(sa.Column("refresh", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("due", sa.Float(), nullable=False, server_default="0"))
    op.drop_index("ix_tasks_status_created_at", "tasks")
    op.create_index("ix_tasks_status_due", "tasks", ["status", "due"])
    op.create_index("ix_documents_expires_at", "documents", ["expires_at"])
    op.create_index("ix_documents_collection_id_stale", "documents", ["collection_id", "stale"])
    op.create_table(
        "document_readers",
        sa.Column("document_id", sa.String(length=64), sa.ForeignKey("documents.id"), primary_key=True),
        sa.Column("reader", sa.String(length=300), primary_key=True),
        sa.Index("ix_document_readers_reader", "reader"),
    )
    op.execute("INSERT INTO document_readers (document_id, reader) SELECT id, '*' FROM documents")


def downgrade() -> None:
    op.drop_table("document_readers")
    op.drop_index("ix_documents_collection_id_stale", "documents")
    op.drop_index("ix_documents_expires_at", "documents")
    op.drop_index("ix_tasks_status_due", "tasks")
    op.create_index("ix_tasks_status_created_at", "tasks", ["status", "created_at"])
    for table, columns in (
        ("tasks", ("metadata", "refresh", "due")),
        ("jobs", ("creator",)),
        ("revisions", ("fingerprint", "said")),
        ("documents", ("acl", "stale", "expires_at")),
    ):
        with op.batch_alter_table(table) as batch_op:
            for column in columns:
                batch_op.drop_column(column)
