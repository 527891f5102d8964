"""What comes out of a batch is its owner's alone"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.drop_column("batches", "acl")
    op.execute("DELETE FROM file_readers WHERE file_id IN (SELECT id FROM files WHERE purpose = 'batch_output')")
    op.execute(
        "INSERT INTO file_readers (file_id, reader) "
        "SELECT id, 'owner:' || creator FROM files WHERE purpose = 'batch_output'"
    )
    # Of documents that are made of one: whoever manages the tenant may open them to others.
    op.execute("""UPDATE files SET acl = '{"users": [], "groups": []}' WHERE purpose = 'batch_output'""")
    own = sa.literal('{"users": ["') + sa.func.substr(sa.column("creator"), 6) + sa.literal('"], "groups": []}')
    files = sa.table("files", sa.column("acl"), sa.column("purpose"), sa.column("creator"))
    made = sa.and_(files.c.purpose == "batch_output", files.c.creator.like("user:%"))
    typed = sa.cast(own, sa.JSON()) if op.get_bind().dialect.name == "postgresql" else own
    op.execute(sa.update(files).where(made).values(acl=typed))


def downgrade() -> None:
    op.execute("DELETE FROM file_readers WHERE reader LIKE 'owner:%'")
    op.add_column("batches", sa.Column("acl", sa.JSON()))
