"""The table of renditions: other forms of an instance that are kept beside it for fast delivery."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from archive.model import BigKey
from kernel.database import Base, UtcDateTime


class Rendition(Base):
    """One form of an instance: its frames in another transfer syntax, or its preview.

    The blob is shared by the instances of a series that were made together; `frames` says where in it each
    frame lies. The row goes with its instance, the blob with its last row.
    """

    __tablename__ = "rendition"
    __table_args__ = (UniqueConstraint("instance_id", "form"), Index("ix_rendition_blob", "blob_key"))

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    instance_id: Mapped[int] = mapped_column(BigKey, ForeignKey("instance.id", ondelete="CASCADE"))
    form: Mapped[str] = mapped_column(String(64))  # a transfer syntax UID, or `preview`
    blob_key: Mapped[str] = mapped_column(String(160))
    seal: Mapped[bytes] = mapped_column(LargeBinary)  # kernel.crypto.Seal, packed
    frames: Mapped[bytes] = mapped_column(LargeBinary)  # archive.frame_index, packed
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
