"""Files, and collections and documents as vector stores and their files know them"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    with op.batch_alter_table("collections") as batch_op:
        batch_op.add_column(sa.Column("title", sa.String(length=512)))
        batch_op.add_column(sa.Column("expires_after_days", sa.Integer()))
        batch_op.add_column(sa.Column("used_at", sa.Float()))
        batch_op.add_column(sa.Column("expired_at", sa.Float()))
    with op.batch_alter_table("documents") as batch_op:
        batch_op.add_column(sa.Column("file_id", sa.String(length=64)))
        batch_op.add_column(sa.Column("chunking", sa.JSON()))
        batch_op.add_column(sa.Column("fault", sa.String(length=20)))
    op.create_index("ix_documents_file_id", "documents", ["file_id"])
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant_id", sa.String(length=64), sa.ForeignKey("tenants.id"), nullable=False),
        sa.Column("creator", sa.String(64), nullable=False),
        sa.Column("filename", sa.String(1000), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("media_type", sa.String(200), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("object_key", sa.String(300), nullable=False),
        sa.Column("acl", sa.JSON()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("deleted_at", sa.Float()),
        sa.Column("swept_at", sa.Float()),
        sa.Index("ix_files_tenant_id_id", "tenant_id", "id"),
        sa.Index("ix_files_expires_at", "expires_at"),
        sa.Index("ix_files_deleted_at", "deleted_at"),
    )
    op.create_table(
        "file_readers",
        sa.Column("file_id", sa.String(length=64), sa.ForeignKey("files.id"), primary_key=True),
        sa.Column("reader", sa.String(300), primary_key=True),
        sa.Index("ix_file_readers_reader", "reader"),
    )


def downgrade() -> None:
    op.drop_table("file_readers")
    op.drop_table("files")
    op.drop_index("ix_documents_file_id", "documents")
    for table, columns in (
        ("documents", ("file_id", "chunking", "fault")),
        ("collections", ("title", "expires_after_days", "used_at", "expired_at")),
    ):
        with op.batch_alter_table(table) as batch_op:
            for column in columns:
                batch_op.drop_column(column)
