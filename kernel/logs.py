"""Log lines with a request id, for people or for machines, and without patient data.

Messages carry identifiers of ours (UIDs, row ids, AE titles), never names, birth dates or identity numbers.
Line breaks and control characters of foreign text are escaped, so that no input can forge a line.
"""

import contextvars
import json
import logging
import sys
from datetime import UTC, datetime

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x85, 0x2028, 0x2029)}


class _Lines(logging.Formatter):
    def __init__(self, machine: bool) -> None:
        super().__init__()
        self._machine = machine

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._machine:
            line = {"at": at, "level": record.levelname, "logger": record.name, "message": message}
            if request_id.get():
                line["request"] = request_id.get()
            if trace:
                line["trace"] = trace
            return json.dumps(line, ensure_ascii=False)
        shown = f"{at} {record.levelname:<7} {record.name}: {message.translate(CONTROL)}"
        return f"{shown}\n{trace}" if trace else shown


def set_up_logs(level: str, machine: bool) -> None:
    """Send log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(machine))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("pynetdicom", "pydicom", "werkzeug", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
