"""The tables. Times are seconds since the Unix epoch (float), ids are opaque strings, JSON is JSON.

A change here needs a migration in `storage/migrations/versions`; a test compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("reach", JSON(none_as_null=True)),  # where its text may go, as `core.reach` writes it; null: anywhere
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False, default=0.0),
    Column("disabled_at", Float),
)

teams = Table(
    "teams",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("tenant_id", "name", name="uq_teams_tenant_id_name"),
)

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("team_id", ForeignKey("teams.id")),
    Column("name", String(200), nullable=False),
    Column("external_id", String(500)),  # issuer and subject of an identity provider, as `ISSUER|SUBJECT`
    Column("role", String(16), nullable=False),
    Column("groups", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("disabled_at", Float),
    UniqueConstraint("tenant_id", "external_id", name="uq_users_tenant_id_external_id"),
    Index("ix_users_changed_at", "changed_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("prefix", String(32), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),  # of the whole key, which has 160 random bits
    Column("role", String(16), nullable=False),
    Column("user_id", ForeignKey("users.id")),
    Column("team_id", ForeignKey("teams.id")),
    Column("scopes", JSON),  # list of texts; null: whatever the role allows
    Column("reach", JSON(none_as_null=True)),  # where its text may go, as `core.reach` writes it; null: anywhere
    Column("priority", String(16), nullable=False, default="normal"),
    Column("rescue", Boolean, nullable=False, default=True),
    Column("cache", String(16), nullable=False, default="off"),  # what of it will do for a model request
    Column("generation", Integer, nullable=False, default=0),  # raised by every change that must hold at once
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False, default=0.0),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Index("ix_api_keys_changed_at", "changed_at"),
)

# Limits of a key, user, team, tenant, model group or route, each within one tenant; null: none of this kind.
# `*` stands for all tenants together.
limits = Table(
    "limits",
    metadata,
    Column("tenant_id", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("subject_id", String(200), primary_key=True),
    Column("requests_per_minute", BigInteger),
    Column("burst", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("parallel", Integer),
    Column("nano_usd_per_day", BigInteger),
    Column("nano_usd_per_month", BigInteger),
    Column("strict", Boolean, nullable=False, default=False),
    Column("changed_at", Float, nullable=False),
    Index("ix_limits_changed_at", "changed_at"),
)

# Sign-ins of the console; the cookie's text is kept as a hash only.
sessions = Table(
    "sessions",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("user_id", ForeignKey("users.id")),
    Column("key_id", ForeignKey("api_keys.id")),
    Column("csrf_sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("revoked_at", Float),
    Index("ix_sessions_revoked_at", "revoked_at"),
    Index("ix_sessions_expires_at", "expires_at"),
)

# What administrators changed of the router's deployments; the others stand in the configuration alone.
deployments = Table(
    "deployments",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("state", String(16), nullable=False),  # active, draining or removed
    Column("entry", JSON),  # as in `model_list`; null: it stands in the configuration
    Column("changed_at", Float, nullable=False),
)

# Experiments that were ended, by an administrator or by themselves.
stopped_experiments = Table(
    "stopped_experiments",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("reason", String(1000), nullable=False),
    Column("stopped_at", Float, nullable=False),
    Column("again_at", Float),  # it was started again; null: it has ended
)

# Every act of an administrator; triggers refuse changes and deletions.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Float, nullable=False),
    Column("tenant_id", String(64), nullable=False),  # whose things were changed
    Column("actor", String(100), nullable=False),  # a key's or a user's id, or `cli`
    Column("action", String(64), nullable=False),  # such as `key.revoke`
    Column("target", String(300), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("details", JSON, nullable=False),
    Index("ix_audit_log_tenant_id_id", "tenant_id", "id"),
)

# What was used, written by the keeper alone. One line for each deployment that worked on a request.
ledger = Table(
    "ledger",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("segment", Integer, primary_key=True),
    Column("tenant_id", String(64), nullable=False),
    Column("user_id", String(64)),
    Column("team_id", String(64)),
    Column("key_id", String(64)),
    Column("route", String(100), nullable=False),
    Column("model_group", String(200), nullable=False),
    Column("deployment", String(200), nullable=False),
    Column("tokens_in", BigInteger, nullable=False),  # cached ones included
    Column("tokens_cached", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("cache", String(16), nullable=False),  # off, miss, hit
    Column("outcome", String(16), nullable=False),  # ok, client_left, failed, rescued, lost
    Column("status", Integer, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("ttft_ms", Float),
    Column("at", Float, nullable=False),  # when it was admitted
    Column("nano_usd_saved", BigInteger, nullable=False, server_default="0"),  # by an answer out of the cache
    Index("ix_ledger_tenant_id_at", "tenant_id", "at"),
    Index("ix_ledger_key_id_at", "key_id", "at"),
    Index("ix_ledger_at", "at", "model_group", "route", "nano_usd"),  # sums over all tenants
)

# A request as its client knows it, by `x-request-id`: what follows the 24 digits and the stop that make a line's name
# its own; cut to 103 signs.
ledger_asked = func.substr(ledger.c.request_id, literal_column("26"))
Index("ix_ledger_tenant_id_asked", ledger.c.tenant_id, ledger_asked)

# Whether an answer helped, as its readers say; the last word of each counts.
feedback = Table(
    "feedback",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("request_id", String(128), nullable=False),  # the answer's `x-request-id`
    Column("who", String(64), nullable=False),  # the user, or else the key
    Column("rating", String(8), nullable=False),  # up, down
    Column("comment", Text),
    Column("collection_id", ForeignKey("collections.id")),
    Column("model_group", String(200), nullable=False),  # of the ledger's line
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("tenant_id", "request_id", "who", name="uq_feedback_tenant_id_request_id_who"),
    Index("ix_feedback_tenant_id_id", "tenant_id", "id"),
    Index("ix_feedback_tenant_id_created_at", "tenant_id", "created_at"),
)

# Budget alerts that were sent: each threshold of each period once.
budget_alerts = Table(
    "budget_alerts",
    metadata,
    Column("tenant_id", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("subject_id", String(200), primary_key=True),
    Column("period", String(16), primary_key=True),  # `2026-11-21` or `2026-11`
    Column("percent", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("delivered_at", Float),
)

# A collection's name is free again once it is deleted: only live rows hold one in `live_name`.
collections = Table(
    "collections",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("live_name", String(200)),
    Column("description", Text, nullable=False, default=""),
    Column("metadata", JSON, nullable=False),
    Column("chunking", JSON, nullable=False),
    Column("embedding_space", String(200), nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("version", Integer, nullable=False, default=0),  # raised by each visibility transaction
    Column("chunks", Integer, nullable=False, default=0),
    Column("terms", BigInteger, nullable=False, default=0),  # lexical length of all visible chunks together
    Column("average_terms", Float, nullable=False),  # BM25's average chunk length as it was expected to be
    Column("language", String(30), nullable=False, server_default="english"),  # of its texts
    Column("search", JSON, nullable=False, server_default="{}"),  # how it is searched, where that is not as usual
    Column("answers", JSON, nullable=False, server_default="{}"),  # how it is answered from, where not as usual
    Column("prompt_version", Integer, nullable=False, server_default="0"),  # of its template; 0: the built-in one
    Column("pool", String(200)),  # the Milvus collection that it shares with others; NULL: it has one of its own
    Column("generation", Integer, nullable=False, default=0),  # of the index that answers; a reindex makes the next
    Column("reach", JSON(none_as_null=True)),  # where its text may go, as `core.reach` writes it; null: anywhere
    Column("title", String(512)),  # the name as a vector store's maker wrote it, where that is no collection's name
    Column("expires_after_days", Integer),  # since it was last used; null: it stays
    Column("used_at", Float),  # when it was last searched or added to; kept only where it may expire
    Column("expired_at", Float),  # when it expired: it answers nobody any more, and its documents are gone
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    Column("swept_at", Float),  # when all that hung on it was deleted; the row stays, so that what comes late is known
    UniqueConstraint("tenant_id", "live_name", name="uq_collections_tenant_id_live_name"),
)

# What a model is told in answers from a collection: a row is never changed.
collection_prompts = Table(
    "collection_prompts",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("template", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(100), nullable=False),  # `user:ID` or `key:ID`
)

# A judged set by which a collection's search is evaluated every day. A worker holds it by lease, as a task.
daily_evaluations = Table(
    "daily_evaluations",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("questions", JSON, nullable=False),  # [{"id", "text", "grades": {document: grade}}, ...]
    Column("judged_by", String(300), nullable=False),  # what the grades call a document by
    Column("reach", JSON(none_as_null=True)),  # where its text may go, as `core.reach` writes it; null: anywhere
    Column("created_by", String(100), nullable=False),  # `user:ID` or `key:ID`
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),  # when it is evaluated next
    Column("last_id", String(64)),  # of `evaluations`: the last whole one by this set; null: there is none yet
    Column("fence", Integer, nullable=False, default=0),
    Column("worker", String(100)),
    Column("lease_until", Float),
    Index("ix_daily_evaluations_due_at", "due_at"),
)

# What came of it, each day.
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("outcome", String(16), nullable=False),  # whole, degraded, failed
    Column("reason", String(2000)),  # why it failed
    Column("result", JSON(none_as_null=True)),  # its figures; null: there are none
    Column("at", Float, nullable=False),  # when it ended
    Index("ix_evaluations_collection_id_id", "collection_id", "id"),
)

# A generation of a collection's index that is not the one that answers: it is being made, or was replaced or given up
# and waits for the sweep. At most one of a collection is being made.
generations = Table(
    "generations",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("embedding_space", String(200), nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("chunking", JSON, nullable=False),
    Column("average_terms", Float, nullable=False),
    Column("pool", String(200)),
    Column("chunks", Integer, nullable=False, default=0),  # of all its twins that are ready
    Column("terms", BigInteger, nullable=False, default=0),
    Column("hold_until", Float),  # until then no upload is begun, so that the last twins can catch up
    Column("created_at", Float, nullable=False),
    Column("retired_at", Float),  # when it was replaced or given up; NULL: it is being made
    Column("swept_at", Float),  # when its rows were deleted; the row stays, so that what comes late is known
    Index("ix_generations_retired_at", "retired_at"),
)

documents = Table(
    "documents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("filename", String(1000), nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("source_key", String(300), nullable=False),  # the bytes as they came, in the object store
    Column("origin", JSON(none_as_null=True)),  # where they were fetched: {"address", "answered", "etag", "modified"}
    Column("file_id", String(64)),  # the file that was attached, which names the document then; null: its filename does
    Column("chunking", JSON),  # its own, which holds before the collection's; null: it has none
    Column("metadata", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text),
    Column("fault", String(20)),  # whose fault it is that it failed, in OpenAI's words; null: not known
    Column("version", Integer, nullable=False, default=0),  # number of the visible revision; 0: none yet
    Column("revision_id", String(64)),  # the visible revision
    Column("acl", JSON),  # {"users": [...], "groups": [...]}; null: everyone in the tenant
    Column("stale", Boolean, nullable=False, default=False),  # metadata or acl are newer than in the index's rows
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("deleted_at", Float),
    Index("ix_documents_collection_id_id", "collection_id", "id"),
    Index("ix_documents_collection_id_stale", "collection_id", "stale"),
    Index("ix_documents_expires_at", "expires_at"),
    Index("ix_documents_file_id", "file_id"),
)

# Who may read a document: `*`, `user:ID` or `group:NAME`.
document_readers = Table(
    "document_readers",
    metadata,
    Column("document_id", ForeignKey("documents.id"), primary_key=True),
    Column("reader", String(300), primary_key=True),
    Index("ix_document_readers_reader", "reader"),
)

# One attempt at indexing one document. Its rows in Milvus carry its id. `visible_from` and `visible_to` are
# collection versions: a reader pinned to v sees it when visible_from <= v < visible_to (null: no end yet).
revisions = Table(
    "revisions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("document_id", ForeignKey("documents.id"), nullable=False),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("generation", Integer, nullable=False, default=0),  # of the index in which its rows are
    Column("twin_of", String(64)),  # the visible revision whose place it takes when the generation answers
    Column("ready_at", Float),  # of a twin: when all of its rows were there
    Column("number", Integer, nullable=False),  # the document's version, counted from 1
    Column("fingerprint", String(64)),  # of all that its text and vectors are made from
    Column("said", String(64)),  # of the metadata and readers in its rows
    Column("text_key", String(300), nullable=False),  # the normalised text, in the object store
    Column("form", JSON),  # {"title", "structured", "records"} of the text, so that it can be cut anew; null: unknown
    Column("pages", JSON, nullable=False),  # [[page, start, end], ...] in characters; empty: no pages
    Column("characters", Integer, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("terms", BigInteger, nullable=False),
    Column("visible_from", Integer),
    Column("visible_to", Integer),
    Column("created_at", Float, nullable=False),
    Column("retired_at", Float),  # when it stopped being visible, or was given up; the sweeper waits from here
    Column("swept_at", Float),  # when its rows in Milvus were deleted
    Index("ix_revisions_document_id_number", "document_id", "number"),
    Index("ix_revisions_twin_of", "twin_of"),
)

# How many visible chunks of a collection hold a term: BM25's document frequency.
term_frequencies = Table(
    "term_frequencies",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("term", String(200), primary_key=True),
    Column("chunks", Integer, nullable=False),
)

# The same of the generation that is being made: its twins that are ready.
coming_frequencies = Table(
    "coming_frequencies",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("term", String(200), primary_key=True),
    Column("chunks", Integer, nullable=False),
)

# The terms of one revision, so that its share can be taken out of `term_frequencies` again.
revision_terms = Table(
    "revision_terms",
    metadata,
    Column("revision_id", ForeignKey("revisions.id"), primary_key=True),
    Column("terms", JSON, nullable=False),  # {term: chunks that hold it}
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("creator", String(64)),  # the user, or the key that has none
    Column("created_at", Float, nullable=False),
    Column("cancelled_at", Float),
    Column("told_at", Float),  # when its end was told to webhooks; null: it has not ended, or is to be told of
    Index("ix_jobs_told_at", "told_at"),
)

# What has to be fetched for a job: one document, whose task is `fetching` until then, or a list of them. Held by lease.
errands = Table(
    "errands",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("document_id", ForeignKey("documents.id")),  # null: a list
    Column("kind", String(16), nullable=False),  # url, page, object; of lists sitemap, prefix
    Column("address", Text, nullable=False),
    Column("host", String(255)),  # to which one is polite; null: nobody asks for that
    Column("plan", JSON(none_as_null=True)),  # of a list: who asked, how, and what was found
    Column("status", String(16), nullable=False),  # open, done, failed, cancelled
    Column("found", Integer, nullable=False, default=0),
    Column("placed", Integer, nullable=False, default=0),  # of what was found, that came into the job or was left out
    Column("left_out", Integer, nullable=False, default=0),
    Column("error", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("worker", String(100)),
    Column("lease_until", Float),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
    Index("ix_errands_status_not_before", "status", "not_before"),
    Index("ix_errands_lease_until", "lease_until"),
    Index("ix_errands_job_id", "job_id"),
    Index("ix_errands_document_id", "document_id"),
)

# When a host may be asked again.
hosts = Table(
    "hosts",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("next_at", Float, nullable=False),
    Index("ix_hosts_next_at", "next_at"),
)

# Whose signed messages are taken. A hook's secret is kept nowhere: it follows from its id and the installation's key.
hooks = Table(
    "hooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("collections", JSON(none_as_null=True)),  # names; null: all of the tenant
    Column("mark", String(16), nullable=False),  # of the secret, so that one of another key of the house is noticed
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Index("ix_hooks_tenant_id_id", "tenant_id", "id"),
)

# Messages that were taken, so that none is taken twice.
hook_messages = Table(
    "hook_messages",
    metadata,
    Column("hook_id", ForeignKey("hooks.id"), primary_key=True),
    Column("message_id", String(256), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Index("ix_hook_messages_at", "at"),
)

# Where the ends of jobs are told.
endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", String(200), nullable=False),
    Column("events", JSON(none_as_null=True)),  # names; null: all
    Column("mark", String(16), nullable=False),  # as a hook's
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    Index("ix_endpoints_tenant_id_id", "tenant_id", "id"),
)

# What is told there, once at least; a keeper holds it by lease.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("endpoint_id", ForeignKey("endpoints.id"), nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("event", String(32), nullable=False),
    Column("body", Text, nullable=False),  # JSON as it is signed
    Column("status", String(16), nullable=False),  # waiting, delivered, given_up
    Column("attempts", Integer, nullable=False, default=0),
    Column("answer", Integer),  # the last status
    Column("error", String(500)),
    Column("fence", Integer, nullable=False, default=0),
    Column("lease_until", Float),
    Column("next_at", Float, nullable=False),
    Column("until", Float, nullable=False),  # then it is given up
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Index("ix_deliveries_status_next_at", "status", "next_at"),
    Index("ix_deliveries_endpoint_id_id", "endpoint_id", "id"),
    Index("ix_deliveries_ended_at", "ended_at"),
)

# One document to be indexed in one job; a worker holds it by lease. `fence` rises with every lease, and what
# a worker writes is accepted only with the fence it was given.
tasks = Table(
    "tasks",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("document_id", ForeignKey("documents.id"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("progress", Float, nullable=False, default=0.0),  # 0 to 1
    Column("error", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("worker", String(100)),
    Column("lease_until", Float),
    Column("metadata", JSON),  # of this upload; null: the document's own
    Column("refresh", Boolean, nullable=False, default=False),  # the document itself has not changed
    Column("generation", Integer),  # for which a twin of the visible revision is to be made; null: nothing of the kind
    Column("due", Float, nullable=False, default=0.0),  # its place in the queue: bulk comes behind what is small
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_tasks_status_due", "status", "due"),
    Index("ix_tasks_document_id", "document_id"),
)

# Files as OpenAI's API has them; what a vector store makes of one is a document.
files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("creator", String(64), nullable=False),  # as `owner` of conversations
    Column("filename", String(1000), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("object_key", String(300), nullable=False),
    Column("acl", JSON),  # as a document's
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("deleted_at", Float),
    Column("swept_at", Float),  # when its bytes were deleted
    Index("ix_files_tenant_id_id", "tenant_id", "id"),
    Index("ix_files_expires_at", "expires_at"),
    Index("ix_files_deleted_at", "deleted_at"),
)

# Who may read a file, as `document_readers`.
file_readers = Table(
    "file_readers",
    metadata,
    Column("file_id", ForeignKey("files.id"), primary_key=True),
    Column("reader", String(300), primary_key=True),
    Index("ix_file_readers_reader", "reader"),
)

# What was said, and by whom: an owner alone sees its own. `user:ID`, or of keys without a user `team:ID` or `tenant`.
conversations = Table(
    "conversations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("owner", String(100), nullable=False),
    Column("title", String(200)),
    Column("metadata", JSON, nullable=False),
    Column("reach", JSON(none_as_null=True)),  # where its text may go, as `core.reach` writes it; null: anywhere
    Column("items", Integer, nullable=False, default=0),  # that were ever added: the next one's position
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    Index("ix_conversations_tenant_id_owner_id", "tenant_id", "owner", "id"),
    Index("ix_conversations_deleted_at", "deleted_at"),
)

# One item in OpenAI's form: a message, a call of a function, what it gave, a file search.
conversation_items = Table(
    "conversation_items",
    metadata,
    Column("conversation_id", ForeignKey("conversations.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False),
    Column("item", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("conversation_id", "id", name="uq_conversation_items_conversation_id_id"),
)

# Answers of /v1/responses that may be asked for again.
responses = Table(
    "responses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("owner", String(100), nullable=False),  # as of conversations
    Column("previous_id", String(64)),
    Column("conversation_id", String(64)),
    Column("status", String(16), nullable=False),
    Column("reach", JSON(none_as_null=True)),  # where its text may go, as `core.reach` writes it; null: anywhere
    Column("input", JSON, nullable=False),  # the items that were sent with it, without what came before
    Column("response", JSON, nullable=False),  # as clients see it
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("deleted_at", Float),
    Index("ix_responses_tenant_id_owner_id", "tenant_id", "owner", "id"),
    Index("ix_responses_expires_at", "expires_at"),
)

# Many requests in one file. The batch is under way until `ended_at`; each of its times that is set stands for a state
# that it has reached.
batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", ForeignKey("tenants.id"), nullable=False),
    Column("owner", String(100), nullable=False),  # as of conversations
    Column("key_id", String(64)),  # whose limits and budgets hold; null: the user's
    Column("user_id", String(64)),
    Column("endpoint", String(100), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("completion_window", String(16), nullable=False),
    Column("output_expires_after_s", Integer),
    Column("metadata", JSON),
    Column("status", String(16), nullable=False),
    Column("ending", String(16)),  # the state in which it will end, known once it is finalizing
    Column("errors", JSON),  # why it failed: [{"code", "line", "message", "param"}]
    Column("model", String(200)),
    Column("total", Integer, nullable=False, default=0),
    Column("completed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("usage", JSON),
    Column("not_before", Float, nullable=False, default=0.0),  # no line is sent until then: a limit said so
    Column("fence", Integer, nullable=False, default=0),  # raised by each lease of reading it or ending it
    Column("worker", String(100)),
    Column("lease_until", Float),
    Column("created_at", Float, nullable=False),
    Column("in_progress_at", Float),
    Column("finalizing_at", Float),
    Column("completed_at", Float),
    Column("failed_at", Float),
    Column("expires_at", Float, nullable=False),
    Column("expired_at", Float),
    Column("cancelling_at", Float),
    Column("cancelled_at", Float),
    Column("ended_at", Float),
    Column("swept_at", Float),  # when its lines were deleted
    Index("ix_batches_tenant_id_owner_id", "tenant_id", "owner", "id"),
    Index("ix_batches_ended_at", "ended_at"),
    Index("ix_batches_swept_at", "swept_at"),
)

# One request of a batch; a worker holds it by lease, as a task of ingestion.
batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # in the file, from 1
    Column("custom_id", String(512), nullable=False),
    Column("body", Text, nullable=False),  # JSON as it was sent
    Column("status", String(16), nullable=False),  # queued, running, completed, failed
    Column("answer", Text),  # JSON as it stands in the output
    Column("attempts", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),  # raised by each lease, so it names each sending
    Column("worker", String(100)),
    Column("lease_until", Float),
    Column("not_before", Float, nullable=False, default=0.0),  # it failed, and is tried again then
    Index("ix_batch_lines_batch_id_status_number", "batch_id", "status", "number"),
    Index("ix_batch_lines_status_lease_until", "status", "lease_until"),
)

# What a host's keeper counted within an hour, in seconds since the epoch: by class of routes, such as `chat`.
sla_hours = Table(
    "sla_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("host", String(255), primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),  # answers with a status of 500 or above
)

# The same requests by the time that they took; a bucket holds those of no other, and one that has none has no row.
sla_latencies = Table(
    "sla_latencies",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("host", String(255), primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("bound", String(16), primary_key=True),  # seconds at most, as Prometheus writes them; `+Inf`
    Column("requests", BigInteger, nullable=False),
)

# How often the host's gateway was asked whether it is ready, and how often it was.
sla_checks = Table(
    "sla_checks",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("host", String(255), primary_key=True),
    Column("checks", BigInteger, nullable=False),
    Column("good", BigInteger, nullable=False),
)

# How far a host's counters were counted into its hours.
sla_marks = Table(
    "sla_marks",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("looks", BigInteger, nullable=False),  # raised by each, so that of two keepers one counts
    Column("keeper", String(64), nullable=False),  # the process that looked last
    Column("folder", String(64), nullable=False),  # whose counters they are; another one once it was cleared
    Column("counts", JSON, nullable=False),
    Column("at", Float, nullable=False),
)
