"""0001 the first schema: every table of every room. Nothing older exists to run beside it."""

import sqlalchemy as sa
from alembic import op

from kernel.database import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("department", sa.String(length=64), nullable=False),
        sa.Column("password", sa.String(length=256), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", UtcDateTime(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("password_changed_at", UtcDateTime(), nullable=True),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("phone", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.String(length=64), nullable=False),
        sa.Column("federated", sa.String(length=320), nullable=False),
        sa.Column("fhir_user", sa.String(length=128), nullable=False),
        sa.Column("patients", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("login", name=op.f("uq_account_login")),
    )
    op.create_index(op.f("ix_account_certificate"), "account", ["certificate"], unique=False)
    op.create_index(op.f("ix_account_federated"), "account", ["federated"], unique=False)
    op.create_table(
        "audit_entry",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("principal_kind", sa.String(length=16), nullable=False),
        sa.Column("principal_id", sa.String(length=64), nullable=False),
        sa.Column("principal_name", sa.String(length=200), nullable=False),
        sa.Column("door", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("grant_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_entry")),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"], unique=False)
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject", "at"], unique=False)
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_seal",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("seal", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_audit_seal")),
    )
    op.create_table(
        "authorization_code",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("family", sa.String(length=36), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("nonce", sa.String(length=256), nullable=False),
        sa.Column("code_challenge", sa.String(length=128), nullable=False),
        sa.Column("auth_time", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_authorization_code")),
    )
    op.create_table(
        "break_glass",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("patient", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("reviewed_by", sa.String(length=36), nullable=False),
        sa.Column("reviewed_at", UtcDateTime(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_break_glass")),
    )
    op.create_index(op.f("ix_break_glass_account_id"), "break_glass", ["account_id"], unique=False)
    op.create_table(
        "change",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("txid", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_change")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_change_order", "change", ["txid", "seq"], unique=False)
    op.create_table(
        "change_cursor",
        sa.Column("subscriber", sa.String(length=64), nullable=False),
        sa.Column("txid", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subscriber", name=op.f("pk_change_cursor")),
    )
    op.create_table(
        "client",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("auth_method", sa.String(length=32), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("jwks", sa.Text(), nullable=False),
        sa.Column("jwks_uri", sa.Text(), nullable=False),
        sa.Column("redirect_uris", sa.Text(), nullable=False),
        sa.Column("launch_uri", sa.Text(), nullable=False),
        sa.Column("grant_types", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client")),
    )
    op.create_table(
        "consent_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("consent", sa.String(length=64), nullable=False),
        sa.Column("patient", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_version")),
    )
    op.create_index(op.f("ix_consent_version_consent"), "consent_version", ["consent"], unique=False)
    op.create_index(op.f("ix_consent_version_patient"), "consent_version", ["patient"], unique=False)
    op.create_table(
        "hl7_message",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sender", sa.String(length=200), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("control_id", sa.String(length=199), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("message_type", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("charset", sa.String(length=16), nullable=False),
        sa.Column("repairs", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("processed_at", UtcDateTime(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("documents", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hl7_message")),
        sa.UniqueConstraint(
            "sender", "control_id", "digest", name=op.f("uq_hl7_message_sender_control_id_digest")
        ),
    )
    op.create_index(op.f("ix_hl7_message_message_type"), "hl7_message", ["message_type"], unique=False)
    op.create_index("ix_hl7_message_received", "hl7_message", ["received_at"], unique=False)
    op.create_index("ix_hl7_message_state", "hl7_message", ["state", "id"], unique=False)
    op.create_table(
        "hl7_outbound",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("message_type", sa.String(length=16), nullable=False),
        sa.Column("control_id", sa.String(length=199), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hl7_outbound")),
        sa.UniqueConstraint("control_id", name=op.f("uq_hl7_outbound_control_id")),
    )
    op.create_index("ix_hl7_outbound_state", "hl7_outbound", ["state", "node", "id"], unique=False)
    op.create_table(
        "hl7_subscription",
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("node", "topic", name=op.f("pk_hl7_subscription")),
    )
    op.create_table(
        "hold",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column(
            "study_instance_uid",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "sop_instance_uid",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("blob_key", sa.String(length=160), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.Column("resolution", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
    )
    op.create_index("ix_hold_blob", "hold", ["blob_key"], unique=False)
    op.create_index("ix_hold_open", "hold", ["resolved_at", "received_at"], unique=False)
    op.create_index(op.f("ix_hold_sop_instance_uid"), "hold", ["sop_instance_uid"], unique=False)
    op.create_index(op.f("ix_hold_study_instance_uid"), "hold", ["study_instance_uid"], unique=False)
    op.create_table(
        "identifier_domain",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("system", sa.String(length=200), nullable=False),
        sa.Column("oid", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("issuer", name=op.f("pk_identifier_domain")),
        sa.UniqueConstraint("system", name=op.f("uq_identifier_domain_system")),
    )
    op.create_table(
        "institution",
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("patient_id_issuer", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_institution")),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("due", UtcDateTime(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("dead", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=192), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("key", name=op.f("uq_job_key")),
    )
    op.create_index("ix_job_due", "job", ["dead", "queue", "due"], unique=False)
    op.create_table(
        "launch",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_launch")),
    )
    op.create_table(
        "node",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("certificate", sa.String(length=64), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("department", sa.String(length=64), nullable=False),
        sa.Column("permissions", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntaxes", sa.Text(), nullable=False),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("max_associations", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
        sa.UniqueConstraint("ae_title", name=op.f("uq_node_ae_title")),
    )
    op.create_table(
        "password_history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("password", sa.String(length=256), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_password_history")),
    )
    op.create_index(op.f("ix_password_history_account_id"), "password_history", ["account_id"], unique=False)
    op.create_table(
        "person",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("logical_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("logical_id", name=op.f("uq_person_logical_id")),
    )
    op.create_table(
        "policy_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("comment", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_version")),
    )
    op.create_table(
        "resource",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "type",
            sa.String(length=40).with_variant(sa.String(length=40, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "logical_id",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("self_hash", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("department", sa.String(length=64), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource")),
        sa.UniqueConstraint("type", "logical_id", name=op.f("uq_resource_type_logical_id")),
    )
    op.create_index("ix_resource_self", "resource", ["self_hash"], unique=False)
    op.create_index("ix_resource_updated", "resource", ["type", "updated_at", "id"], unique=False)
    op.create_table(
        "second_factor",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("credential", sa.String(length=512), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_second_factor")),
    )
    op.create_index(op.f("ix_second_factor_account_id"), "second_factor", ["account_id"], unique=False)
    op.create_index(op.f("ix_second_factor_credential"), "second_factor", ["credential"], unique=False)
    op.create_table(
        "signing_key",
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("pem", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_key")),
    )
    op.create_table(
        "spent_assertion",
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("jti", sa.String(length=128), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "jti", name=op.f("pk_spent_assertion")),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("family", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("factors", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("digest", name=op.f("uq_token_digest")),
    )
    op.create_index("ix_token_account", "token", ["account_id"], unique=False)
    op.create_index("ix_token_expires", "token", ["expires_at"], unique=False)
    op.create_index(op.f("ix_token_family"), "token", ["family"], unique=False)
    op.create_table(
        "index_compartment",
        sa.Column(
            "patient",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"],
            ["resource.id"],
            name=op.f("fk_index_compartment_resource_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_index_compartment_patient", "index_compartment", ["patient", "resource_id"], unique=False
    )
    op.create_index("ix_index_compartment_resource", "index_compartment", ["resource_id"], unique=False)
    op.create_table(
        "index_date",
        sa.Column("parameter", sa.Integer(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_index_date_resource_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_index_date_high", "index_date", ["parameter", "high", "resource_id"], unique=False)
    op.create_index("ix_index_date_low", "index_date", ["parameter", "low", "resource_id"], unique=False)
    op.create_index("ix_index_date_resource", "index_date", ["resource_id", "parameter"], unique=False)
    op.create_table(
        "index_number",
        sa.Column("parameter", sa.Integer(), nullable=False),
        sa.Column("low", sa.Float(precision=53), nullable=False),
        sa.Column("high", sa.Float(precision=53), nullable=False),
        sa.Column("unit", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_index_number_resource_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_index_number_low", "index_number", ["parameter", "low", "resource_id"], unique=False)
    op.create_index("ix_index_number_resource", "index_number", ["resource_id", "parameter"], unique=False)
    op.create_table(
        "index_reference",
        sa.Column("parameter", sa.Integer(), nullable=False),
        sa.Column("target", sa.BigInteger(), nullable=False),
        sa.Column(
            "target_type",
            sa.String(length=40).with_variant(sa.String(length=40, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("identifier", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_index_reference_resource_id"), ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_index_reference_resource", "index_reference", ["resource_id", "parameter"], unique=False
    )
    op.create_index("ix_index_reference_reverse", "index_reference", ["target", "resource_id"], unique=False)
    op.create_index(
        "ix_index_reference_target", "index_reference", ["parameter", "target", "resource_id"], unique=False
    )
    op.create_table(
        "index_string",
        sa.Column("parameter", sa.Integer(), nullable=False),
        sa.Column(
            "value",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "exact",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_index_string_resource_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_index_string_resource", "index_string", ["resource_id", "parameter"], unique=False)
    op.create_index(
        "ix_index_string_value", "index_string", ["parameter", "value", "resource_id"], unique=False
    )
    op.create_table(
        "index_token",
        sa.Column("parameter", sa.Integer(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.BigInteger(), nullable=False),
        sa.Column("system", sa.BigInteger(), nullable=False),
        sa.Column(
            "text",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_index_token_resource_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_index_token_code", "index_token", ["parameter", "code", "resource_id"], unique=False)
    op.create_index("ix_index_token_resource", "index_token", ["resource_id", "parameter"], unique=False)
    op.create_index(
        "ix_index_token_value", "index_token", ["parameter", "value", "resource_id"], unique=False
    )
    op.create_table(
        "index_uri",
        sa.Column("parameter", sa.Integer(), nullable=False),
        sa.Column(
            "value",
            sa.String(length=500).with_variant(sa.String(length=500, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_index_uri_resource_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_index_uri_resource", "index_uri", ["resource_id", "parameter"], unique=False)
    op.create_index("ix_index_uri_value", "index_uri", ["parameter", "value", "resource_id"], unique=False)
    op.create_table(
        "patient_record",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("issuer", sa.String(length=64), nullable=False),
        sa.Column("identifier", sa.String(length=80), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("replaced_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("authority", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_patient_record_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_record")),
        sa.UniqueConstraint("issuer", "identifier", name=op.f("uq_patient_record_issuer_identifier")),
        sa.UniqueConstraint("patient_id", name=op.f("uq_patient_record_patient_id")),
    )
    op.create_index(op.f("ix_patient_record_institution"), "patient_record", ["institution"], unique=False)
    op.create_index(op.f("ix_patient_record_person_id"), "patient_record", ["person_id"], unique=False)
    op.create_index(op.f("ix_patient_record_replaced_by"), "patient_record", ["replaced_by"], unique=False)
    op.create_table(
        "resource_version",
        sa.Column("resource_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["resource.id"], name=op.f("fk_resource_version_resource_id")
        ),
        sa.PrimaryKeyConstraint("resource_id", "version", name=op.f("pk_resource_version")),
    )
    op.create_index("ix_resource_version_at", "resource_version", ["updated_at"], unique=False)
    op.create_table(
        "block_key",
        sa.Column("hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "patient_record_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["patient_record_id"],
            ["patient_record.id"],
            name=op.f("fk_block_key_patient_record_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hash", "patient_record_id", name=op.f("pk_block_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "patient_link",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("patient_record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("previous_person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.Column("weights_version", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_record_id"], ["patient_record.id"], name=op.f("fk_patient_link_patient_record_id")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_patient_link_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_link")),
    )
    op.create_index(
        op.f("ix_patient_link_patient_record_id"), "patient_link", ["patient_record_id"], unique=False
    )
    op.create_index("ix_patient_link_person", "patient_link", ["person_id"], unique=False)
    op.create_table(
        "patient_merge",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "surviving_record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("previous_person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("undone_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["record_id"], ["patient_record.id"], name=op.f("fk_patient_merge_record_id")
        ),
        sa.ForeignKeyConstraint(
            ["surviving_record_id"], ["patient_record.id"], name=op.f("fk_patient_merge_surviving_record_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_merge")),
    )
    op.create_index(op.f("ix_patient_merge_record_id"), "patient_merge", ["record_id"], unique=False)
    op.create_index(
        op.f("ix_patient_merge_surviving_record_id"), "patient_merge", ["surviving_record_id"], unique=False
    )
    op.create_table(
        "patient_review",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("patient_record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("other_record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.Column("rules", sa.String(length=200), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("decided_by", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["other_record_id"], ["patient_record.id"], name=op.f("fk_patient_review_other_record_id")
        ),
        sa.ForeignKeyConstraint(
            ["patient_record_id"], ["patient_record.id"], name=op.f("fk_patient_review_patient_record_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient_review")),
        sa.UniqueConstraint(
            "kind",
            "patient_record_id",
            "other_record_id",
            name=op.f("uq_patient_review_kind_patient_record_id_other_record_id"),
        ),
    )
    op.create_index("ix_patient_review_open", "patient_review", ["state", "weight"], unique=False)
    op.create_table(
        "study",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "study_instance_uid",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("logical_id", sa.String(length=64), nullable=False),
        sa.Column("patient_record_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("patient_logical_id", sa.String(length=64), nullable=False),
        sa.Column("institution", sa.String(length=32), nullable=False),
        sa.Column("department", sa.String(length=64), nullable=False),
        sa.Column(
            "patient_id",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "issuer_of_patient_id",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "name_alphabetic",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "name_ideographic",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "name_phonetic",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "name_pinyin",
            sa.String(length=400).with_variant(sa.String(length=400, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("patient_birth_date", sa.Date(), nullable=True),
        sa.Column("patient_sex", sa.String(length=16), nullable=False),
        sa.Column("study_date", sa.Date(), nullable=True),
        sa.Column(
            "study_time",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "accession_number",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "study_id",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "study_description",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "referring_physician_name",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("number_of_series", sa.Integer(), nullable=False),
        sa.Column("number_of_instances", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("rested_revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_record_id"], ["patient_record.id"], name=op.f("fk_study_patient_record_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("logical_id", name=op.f("uq_study_logical_id")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_study_study_instance_uid")),
    )
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"], unique=False)
    op.create_index("ix_study_changed", "study", ["changed_at"], unique=False)
    op.create_index("ix_study_institution", "study", ["institution", "study_date"], unique=False)
    op.create_index(op.f("ix_study_name_alphabetic"), "study", ["name_alphabetic"], unique=False)
    op.create_index(op.f("ix_study_name_ideographic"), "study", ["name_ideographic"], unique=False)
    op.create_index(op.f("ix_study_name_phonetic"), "study", ["name_phonetic"], unique=False)
    op.create_index(op.f("ix_study_name_pinyin"), "study", ["name_pinyin"], unique=False)
    op.create_index(op.f("ix_study_patient_birth_date"), "study", ["patient_birth_date"], unique=False)
    op.create_index(op.f("ix_study_patient_id"), "study", ["patient_id"], unique=False)
    op.create_index(op.f("ix_study_patient_logical_id"), "study", ["patient_logical_id"], unique=False)
    op.create_index(op.f("ix_study_patient_record_id"), "study", ["patient_record_id"], unique=False)
    op.create_index("ix_study_recent", "study", ["study_date", "study_time", "id"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "series_instance_uid",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "modality",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column(
            "series_description",
            sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "body_part_examined",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("series_date", sa.Date(), nullable=True),
        sa.Column(
            "station_name",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "manufacturer",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("performed_procedure_step_start_date", sa.Date(), nullable=True),
        sa.Column(
            "performed_procedure_step_start_time",
            sa.String(length=16).with_variant(sa.String(length=16, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("number_of_instances", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("bundle", sa.LargeBinary(), nullable=True),
        sa.Column("bundle_revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_series_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint(
            "study_id", "series_instance_uid", name=op.f("uq_series_study_id_series_instance_uid")
        ),
    )
    op.create_index("ix_series_modality", "series", ["study_id", "modality"], unique=False)
    op.create_index("ix_series_uid", "series", ["series_instance_uid"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("study_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("series_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "sop_instance_uid",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "sop_class_uid",
            sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("number_of_frames", sa.Integer(), nullable=False),
        sa.Column("content_date", sa.Date(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("columns", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("md5", sa.LargeBinary(length=16), nullable=False),
        sa.Column("blob_key", sa.String(length=160), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.Column("frames", sa.LargeBinary(), nullable=False),
        sa.Column("bulk", sa.Text(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=True),
        sa.Column("repairs", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("door", sa.String(length=16), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_instance_series_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_instance_study_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_instance_sop_instance_uid")),
    )
    op.create_index("ix_instance_blob", "instance", ["blob_key"], unique=False)
    op.create_index("ix_instance_series", "instance", ["series_id", "instance_number", "id"], unique=False)
    op.create_index("ix_instance_study", "instance", ["study_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_instance_study", table_name="instance")
    op.drop_index("ix_instance_series", table_name="instance")
    op.drop_index("ix_instance_blob", table_name="instance")
    op.drop_table("instance")
    op.drop_index("ix_series_uid", table_name="series")
    op.drop_index("ix_series_modality", table_name="series")
    op.drop_table("series")
    op.drop_index("ix_study_recent", table_name="study")
    op.drop_index(op.f("ix_study_patient_record_id"), table_name="study")
    op.drop_index(op.f("ix_study_patient_logical_id"), table_name="study")
    op.drop_index(op.f("ix_study_patient_id"), table_name="study")
    op.drop_index(op.f("ix_study_patient_birth_date"), table_name="study")
    op.drop_index(op.f("ix_study_name_pinyin"), table_name="study")
    op.drop_index(op.f("ix_study_name_phonetic"), table_name="study")
    op.drop_index(op.f("ix_study_name_ideographic"), table_name="study")
    op.drop_index(op.f("ix_study_name_alphabetic"), table_name="study")
    op.drop_index("ix_study_institution", table_name="study")
    op.drop_index("ix_study_changed", table_name="study")
    op.drop_index(op.f("ix_study_accession_number"), table_name="study")
    op.drop_table("study")
    op.drop_index("ix_patient_review_open", table_name="patient_review")
    op.drop_table("patient_review")
    op.drop_index(op.f("ix_patient_merge_surviving_record_id"), table_name="patient_merge")
    op.drop_index(op.f("ix_patient_merge_record_id"), table_name="patient_merge")
    op.drop_table("patient_merge")
    op.drop_index("ix_patient_link_person", table_name="patient_link")
    op.drop_index(op.f("ix_patient_link_patient_record_id"), table_name="patient_link")
    op.drop_table("patient_link")
    op.drop_table("block_key")
    op.drop_index("ix_resource_version_at", table_name="resource_version")
    op.drop_table("resource_version")
    op.drop_index(op.f("ix_patient_record_replaced_by"), table_name="patient_record")
    op.drop_index(op.f("ix_patient_record_person_id"), table_name="patient_record")
    op.drop_index(op.f("ix_patient_record_institution"), table_name="patient_record")
    op.drop_table("patient_record")
    op.drop_index("ix_index_uri_value", table_name="index_uri")
    op.drop_index("ix_index_uri_resource", table_name="index_uri")
    op.drop_table("index_uri")
    op.drop_index("ix_index_token_value", table_name="index_token")
    op.drop_index("ix_index_token_resource", table_name="index_token")
    op.drop_index("ix_index_token_code", table_name="index_token")
    op.drop_table("index_token")
    op.drop_index("ix_index_string_value", table_name="index_string")
    op.drop_index("ix_index_string_resource", table_name="index_string")
    op.drop_table("index_string")
    op.drop_index("ix_index_reference_target", table_name="index_reference")
    op.drop_index("ix_index_reference_reverse", table_name="index_reference")
    op.drop_index("ix_index_reference_resource", table_name="index_reference")
    op.drop_table("index_reference")
    op.drop_index("ix_index_number_resource", table_name="index_number")
    op.drop_index("ix_index_number_low", table_name="index_number")
    op.drop_table("index_number")
    op.drop_index("ix_index_date_resource", table_name="index_date")
    op.drop_index("ix_index_date_low", table_name="index_date")
    op.drop_index("ix_index_date_high", table_name="index_date")
    op.drop_table("index_date")
    op.drop_index("ix_index_compartment_resource", table_name="index_compartment")
    op.drop_index("ix_index_compartment_patient", table_name="index_compartment")
    op.drop_table("index_compartment")
    op.drop_index(op.f("ix_token_family"), table_name="token")
    op.drop_index("ix_token_expires", table_name="token")
    op.drop_index("ix_token_account", table_name="token")
    op.drop_table("token")
    op.drop_table("spent_assertion")
    op.drop_table("signing_key")
    op.drop_index(op.f("ix_second_factor_credential"), table_name="second_factor")
    op.drop_index(op.f("ix_second_factor_account_id"), table_name="second_factor")
    op.drop_table("second_factor")
    op.drop_index("ix_resource_updated", table_name="resource")
    op.drop_index("ix_resource_self", table_name="resource")
    op.drop_table("resource")
    op.drop_table("policy_version")
    op.drop_table("person")
    op.drop_index(op.f("ix_password_history_account_id"), table_name="password_history")
    op.drop_table("password_history")
    op.drop_table("node")
    op.drop_table("launch")
    op.drop_index("ix_job_due", table_name="job")
    op.drop_table("job")
    op.drop_table("institution")
    op.drop_table("identifier_domain")
    op.drop_index(op.f("ix_hold_study_instance_uid"), table_name="hold")
    op.drop_index(op.f("ix_hold_sop_instance_uid"), table_name="hold")
    op.drop_index("ix_hold_open", table_name="hold")
    op.drop_index("ix_hold_blob", table_name="hold")
    op.drop_table("hold")
    op.drop_table("hl7_subscription")
    op.drop_index("ix_hl7_outbound_state", table_name="hl7_outbound")
    op.drop_table("hl7_outbound")
    op.drop_index("ix_hl7_message_state", table_name="hl7_message")
    op.drop_index("ix_hl7_message_received", table_name="hl7_message")
    op.drop_index(op.f("ix_hl7_message_message_type"), table_name="hl7_message")
    op.drop_table("hl7_message")
    op.drop_index(op.f("ix_consent_version_patient"), table_name="consent_version")
    op.drop_index(op.f("ix_consent_version_consent"), table_name="consent_version")
    op.drop_table("consent_version")
    op.drop_table("client")
    op.drop_table("change_cursor")
    op.drop_index("ix_change_order", table_name="change")
    op.drop_table("change")
    op.drop_index(op.f("ix_break_glass_account_id"), table_name="break_glass")
    op.drop_table("break_glass")
    op.drop_table("authorization_code")
    op.drop_table("audit_seal")
    op.drop_table("audit_head")
    op.drop_index("ix_audit_entry_subject", table_name="audit_entry")
    op.drop_index("ix_audit_entry_at", table_name="audit_entry")
    op.drop_table("audit_entry")
    op.drop_index(op.f("ix_account_federated"), table_name="account")
    op.drop_index(op.f("ix_account_certificate"), table_name="account")
    op.drop_table("account")
