"""The tables of the records room: documents, their versions, and the search index.

The index tables are narrow and have no identity of their own: they are made from a document and made
again when it changes. `parameter` stands for type and code (`records.parameters.parameter_number`), hashes
are signed 64-bit, and `resource_id` follows the value in every index, so that a search for one value streams
in the order of resources.
"""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime
from kernel.sealed_text import HiddenWord, IndexHash, IndexText, SealedDocument
from kernel.veiled_text import TextOrName
from records.document_words import WORDS

BigKey = BigInteger().with_variant(Integer(), "sqlite")


def text_key(length: int) -> String:
    """A searched text, compared by code point on every database."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


DOCUMENT = SealedDocument("document", WORDS)
"""A document in its row; the same in both tables, for a new version is written into both."""


class Resource(Base):
    """The present version of a document, or the row of one that is drawn from elsewhere (`body` is empty
    then)."""

    __tablename__ = "resource"
    __table_args__ = (
        UniqueConstraint("type", "logical_id"),
        Index("ix_resource_updated", "type", "updated_at", "id"),
        Index("ix_resource_self", "self_hash"),
        Index("ix_resource_type", "type", "id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    type: Mapped[str] = mapped_column(text_key(40))
    logical_id: Mapped[str] = mapped_column(text_key(64))
    self_hash: Mapped[int] = mapped_column(BigInteger)  # of `Type/id`, as references to it are hashed
    version: Mapped[int] = mapped_column(default=1)
    deleted: Mapped[bool] = mapped_column(default=False)
    institution: Mapped[str] = mapped_column(String(32), default="")
    department: Mapped[str] = mapped_column(String(64), default="")
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    body: Mapped[str] = mapped_column(
        DOCUMENT, default=""
    )  # the document as JSON, with id and meta as they stand


class ResourceVersion(Base):
    """One version of a document, the present one included."""

    __tablename__ = "resource_version"
    __table_args__ = (
        Index("ix_resource_version_at", "updated_at", "resource_id", "version"),
        Index("ix_resource_version_type", "type", "updated_at", "resource_id", "version"),
    )

    resource_id: Mapped[int] = mapped_column(BigKey, ForeignKey("resource.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(text_key(40))  # copied from the resource, for a type's history
    method: Mapped[str] = mapped_column(String(8))  # POST, PUT, PATCH, DELETE
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    body: Mapped[str] = mapped_column(DOCUMENT, default="")


class SealingPass(Base):
    """How far what is kept was brought under a key; there is at most one row."""

    __tablename__ = "sealing_pass"

    id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(String(32))  # of the key ring
    sealed_to: Mapped[int] = mapped_column(BigInteger)  # resource.id up to which every row is sealed
    is_done: Mapped[bool]
    is_indexed: Mapped[bool] = mapped_column(default=False, server_default=false())  # what is hidden is


def _of_resource() -> Column[int]:
    return Column("resource_id", BigKey, ForeignKey("resource.id", ondelete="CASCADE"), nullable=False)


def _parameter() -> Column[int]:
    return Column("parameter", Integer, nullable=False)


IndexToken = Table(
    "index_token",
    Base.metadata,
    _parameter(),
    Column("value", IndexHash, nullable=False),  # hash of system and code
    Column("code", IndexHash, nullable=False),  # hash of the code alone
    Column("system", BigInteger, nullable=False),  # hash of the system alone
    Column("text", IndexText(200), nullable=False, default=""),  # folded display, else the code itself
    _of_resource(),
    Index("ix_index_token_text", "parameter", "text", "resource_id"),
    Index("ix_index_token_value", "parameter", "value", "resource_id"),
    Index("ix_index_token_code", "parameter", "code", "resource_id"),
    Index("ix_index_token_resource", "resource_id", "parameter"),
)

IndexString = Table(
    "index_string",
    Base.metadata,
    _parameter(),
    Column("value", TextOrName(200), nullable=False),  # folded
    Column("exact", TextOrName(200), nullable=False),
    _of_resource(),
    Index("ix_index_string_value", "parameter", "value", "resource_id"),
    Index("ix_index_string_resource", "resource_id", "parameter"),
)

IndexDate = Table(
    "index_date",
    Base.metadata,
    _parameter(),
    Column("low", BigInteger, nullable=False),  # milliseconds since 1970, the first of the interval
    Column("high", BigInteger, nullable=False),  # and the last
    _of_resource(),
    # both ends, so that a range is found without the rows; each in the order of the answers sorted by it
    Index("ix_index_date_earliest", "parameter", "low", "resource_id", "high"),
    Index("ix_index_date_latest", "parameter", "high", text("resource_id DESC"), "low"),
    Index("ix_index_date_resource", "resource_id", "parameter"),
)

IndexNumber = Table(
    "index_number",
    Base.metadata,
    _parameter(),
    Column("low", Float(53), nullable=False),  # the interval that the written precision stands for
    Column("high", Float(53), nullable=False),
    Column("unit", BigInteger, nullable=False),  # hash of system and code, 0 for a plain number
    Column("code", BigInteger, nullable=False),  # hash of the code or unit alone
    _of_resource(),
    Index("ix_index_number_low", "parameter", "low", "resource_id"),
    Index("ix_index_number_high", "parameter", "high", "resource_id"),
    Index("ix_index_number_resource", "resource_id", "parameter"),
)

IndexReference = Table(
    "index_reference",
    Base.metadata,
    _parameter(),
    Column("target", BigInteger, nullable=False),  # hash of `Type/id`, or of the URL
    Column("target_type", text_key(40), nullable=False),
    Column("identifier", IndexHash, nullable=False),  # hash of Reference.identifier's system and value, or 0
    _of_resource(),
    Index("ix_index_reference_target", "parameter", "target", "resource_id"),
    Index("ix_index_reference_reverse", "target", "resource_id"),
    Index("ix_index_reference_identifier", "parameter", "identifier", "resource_id"),
    Index("ix_index_reference_resource", "resource_id", "parameter"),
)

IndexUri = Table(
    "index_uri",
    Base.metadata,
    _parameter(),
    Column("value", text_key(500), nullable=False),
    _of_resource(),
    Index("ix_index_uri_value", "parameter", "value", "resource_id"),
    Index("ix_index_uri_resource", "resource_id", "parameter"),
)

IndexComposite = Table(  # one row for each pair (or triple) of values that stand together (R4 3.1.1.4.14)
    "index_composite",
    Base.metadata,
    _parameter(),
    Column(
        "first", BigInteger, nullable=False
    ),  # of a token: hash of system and code; of a reference: target
    Column("first_code", BigInteger, nullable=False),
    Column("first_system", BigInteger, nullable=False),
    Column("second", BigInteger, nullable=False),  # the same of a second token or reference, else 0
    Column("second_code", BigInteger, nullable=False),
    Column("second_system", BigInteger, nullable=False),
    Column("text", IndexText(200), nullable=False),  # of a second string, folded
    Column("low", Float(53), nullable=False),  # of a second number, quantity or date
    Column("high", Float(53), nullable=False),
    Column("unit", BigInteger, nullable=False),
    Column("unit_code", BigInteger, nullable=False),
    Column("third_low", Float(53), nullable=False),  # of a third number
    Column("third_high", Float(53), nullable=False),
    _of_resource(),
    Index("ix_index_composite_first", "parameter", "first", "second", "low", "resource_id"),
    Index("ix_index_composite_code", "parameter", "first_code", "second_code", "low", "resource_id"),
    Index("ix_index_composite_resource", "resource_id", "parameter"),
)

IndexPosition = Table(  # Location.position: degrees, and the same place on a sphere of radius 1
    "index_position",
    Base.metadata,
    _parameter(),
    Column("latitude", Float(53), nullable=False),
    Column("x", Float(53), nullable=False),
    Column("y", Float(53), nullable=False),
    Column("z", Float(53), nullable=False),
    _of_resource(),
    Index("ix_index_position_latitude", "parameter", "latitude", "resource_id"),
    Index("ix_index_position_resource", "resource_id", "parameter"),
)

IndexHiddenWord = Table(  # for _text and _content; made by a follower of the change feed
    "index_hidden_word",
    Base.metadata,
    Column("word", HiddenWord, nullable=False),
    Column("in_narrative", Boolean, nullable=False),
    _of_resource(),
    Index("ix_index_hidden_word_word", "word", "resource_id"),
    Index("ix_index_hidden_word_resource", "resource_id"),
)

IndexWord = Table(  # the same in clear: while nothing is sealed, and from before words were hidden
    "index_word",
    Base.metadata,
    Column("word", text_key(64), nullable=False),
    Column("in_narrative", Boolean, nullable=False),
    _of_resource(),
    Index("ix_index_word_word", "word", "resource_id"),
    Index("ix_index_word_resource", "resource_id"),
)

IndexCompartment = Table(
    "index_compartment",
    Base.metadata,
    Column("patient", text_key(64), nullable=False),  # logical id
    _of_resource(),
    Index("ix_index_compartment_patient", "patient", "resource_id"),
    Index("ix_index_compartment_resource", "resource_id"),
)

INDEX_TABLES = (
    IndexToken,
    IndexString,
    IndexDate,
    IndexNumber,
    IndexReference,
    IndexUri,
    IndexComposite,
    IndexPosition,
    IndexCompartment,
)


class CustomParameter(Base):
    """A search parameter that a SearchParameter document adds to one resource type."""

    __tablename__ = "custom_parameter"

    resource_type: Mapped[str] = mapped_column(String(40), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    type: Mapped[str] = mapped_column(String(16))
    expression: Mapped[str] = mapped_column(Text)
    targets: Mapped[str] = mapped_column(Text, default="")  # types, by commas
    document: Mapped[str] = mapped_column(String(64), index=True)  # logical id of the SearchParameter
    indexed_to: Mapped[int] = mapped_column(BigInteger, default=0)  # resource.id up to which rows are made
    is_ready: Mapped[bool] = mapped_column(default=False)  # every document has its rows
    revision: Mapped[int] = mapped_column(default=1)  # grows with every change of the expression
