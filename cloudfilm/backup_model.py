"""The table of backups and drills: what was tried, when, and whether it was good."""

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.database import Base, UtcDateTime


class BackupRun(Base):
    """One backup, verification or restore drill."""

    __tablename__ = "backup_run"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # backup, verify or drill
    began_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    seconds: Mapped[int] = mapped_column(default=0)
    good: Mapped[bool] = mapped_column(default=False)
    detail: Mapped[str] = mapped_column(Text, default="")  # what was found, for people
