"""Traces: what a request, an operation, a message or a job was made of, for OpenTelemetry (W3C Trace
Context).

Off unless `traces.endpoint` names a collector; then `span` costs one comparison and makes nothing. On, spans
go to the collector by OTLP over HTTP from a thread of their own, in batches; what a collector that is away
cannot take is dropped, and nobody waits for it. A span carries names of ours (routes, operations, UIDs,
tables), never a statement's values, a query string or what is said of a patient.

Nothing of OpenTelemetry is imported before it is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from kernel.settings import TracesSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

SERVER, CLIENT, INTERNAL, PRODUCER, CONSUMER = "SERVER", "CLIENT", "INTERNAL", "PRODUCER", "CONSUMER"
MOST_WAITING = 4096  # spans; more of them are dropped while the collector is slow
QUIETLY: Any = {"record_exception": False, "set_status_on_exception": False}  # a message may quote values
NOTHING: AbstractContextManager[Any] = nullcontext()

ROUTE = "cloudfilm.route"  # in a request's environment

_tracer: Tracer | None = None
_provider: TracerProvider | None = None


def set_up_traces(settings: TracesSettings, role: str, version: str) -> None:
    """Begin to trace in this process, if a collector is named. Once for a process, after any fork."""
    global _tracer, _provider
    if not settings.endpoint or _tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    share = TraceIdRatioBased(settings.share)
    # Whoever calls may name a trace; whether it is recorded is for us to say.
    sampler = ParentBased(share, remote_parent_sampled=share, remote_parent_not_sampled=share)
    named = {"service.name": settings.service, "service.version": version, "cloudfilm.role": role}
    _provider = TracerProvider(sampler=sampler, resource=Resource.create(named), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=settings.endpoint.rstrip("/") + "/v1/traces", timeout=5)
    processor = BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=1000)
    _provider.add_span_processor(processor)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a collector that is away is its own alarm
    _tracer = _provider.get_tracer("cloudfilm", version)


def shut_down_traces() -> None:
    """Send what waits, at the end of a process."""
    global _tracer, _provider
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def is_tracing() -> bool:
    """Whether this process traces."""
    return _tracer is not None


def span(name: str, kind: str = INTERNAL, parent: str = "", **attributes: Any) -> AbstractContextManager[Any]:
    """A span around a block. parent: a `traceparent`, where it was begun elsewhere.

    Attributes have `_` where OpenTelemetry's names have dots.
    """
    return NOTHING if _tracer is None else _span(_tracer, name, kind, parent, attributes)


@contextmanager
def _span(tracer: Tracer, name: str, kind: str, parent: str, attributes: Mapping[str, Any]) -> Iterator[None]:
    from opentelemetry.trace import SpanKind, StatusCode

    named = {key.replace("_", "."): value for key, value in attributes.items()}
    with tracer.start_as_current_span(name, _context(parent), SpanKind[kind], named, **QUIETLY) as begun:
        try:
            yield
        except BaseException as failure:
            begun.set_attribute("error.type", type(failure).__name__)
            begun.set_status(StatusCode.ERROR)
            raise


def _context(parent: str) -> Any:
    if not parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def traceparent() -> str:
    """The present span, as it is handed on to another process; empty where none is recorded."""
    if _tracer is None:
        return ""
    from opentelemetry.trace import get_current_span

    found = get_current_span()
    if not found.is_recording():
        return ""
    context = found.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def trace_statements(engine: Engine) -> None:
    """Let each statement of a span be a span of its own; of the statement, only what it does to which table
    is told."""
    if _tracer is None:
        return
    system = engine.dialect.name

    def before(
        connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        from opentelemetry.trace import SpanKind, get_current_span

        if _tracer is None or not get_current_span().is_recording():
            return
        verb, table = summary(statement)
        named = {"db.system.name": system, "db.operation.name": verb, "db.collection.name": table}
        connection.info["span"] = _tracer.start_span(
            f"{verb} {table}".strip(), kind=SpanKind.CLIENT, attributes=named
        )

    def after(connection: Any, *_: Any) -> None:
        begun = connection.info.pop("span", None)
        if begun is not None:
            begun.end()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(
        engine, "handle_error", lambda context: after(context.connection) if context.connection else None
    )


def statement_span(system: str, statement: str) -> AbstractContextManager[Any]:
    """A span around one statement that goes to the driver past SQLAlchemy."""
    if _tracer is None:
        return NOTHING
    verb, table = summary(statement)
    named = {"db_system_name": system, "db_operation_name": verb, "db_collection_name": table}
    return _span(_tracer, f"{verb} {table}".strip(), CLIENT, "", named)


def summary(statement: str) -> tuple[str, str]:
    """What a statement does, and to which table."""
    words = statement.split()
    verb = words[0].upper() if words else ""
    before_table = {"SELECT": "FROM", "INSERT": "INTO", "UPDATE": "UPDATE", "DELETE": "FROM"}.get(verb)
    for word, following in pairwise(words):
        if word.upper() == before_table:
            return verb, following.strip('"(),;')
    return verb, ""


class TracedApp:
    """A WSGI application whose requests are spans, from their first byte to the last of their answers.

    A span is called by its route, which the application leaves in the environment: a URL holds identifiers.
    """

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if _tracer is None:
            return self._inner(environ, start_response)
        return self._traced(_tracer, environ, start_response)

    def _traced(
        self, tracer: Tracer, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        from opentelemetry.trace import SpanKind, StatusCode, use_span

        method = str(environ.get("REQUEST_METHOD", ""))
        parent = _context(str(environ.get("HTTP_TRACEPARENT", "")))
        named = {"http.request.method": method}
        begun = tracer.start_span(method, parent, SpanKind.SERVER, named)

        def started(status: str, *rest: Any) -> Any:
            begun.set_attribute("http.response.status_code", int(status.split(" ", 1)[0]))
            if status.startswith("5"):
                begun.set_status(StatusCode.ERROR)
            route = environ.get(ROUTE, "")
            if route:
                begun.update_name(f"{method} {route}")
                begun.set_attribute("http.route", route)
            return start_response(status, *rest)

        try:
            with use_span(begun, **QUIETLY):
                answer = self._inner(environ, started)
        except BaseException:
            begun.end()
            raise
        return _Ending(answer, begun)


class _Ending:
    """The pieces of an answer; the span ends with them. What is read on the way belongs to it as well."""

    def __init__(self, answer: Iterable[bytes], begun: Span) -> None:
        self._answer = answer
        self._span = begun

    def __iter__(self) -> Iterator[bytes]:
        from opentelemetry.trace import use_span

        pieces = iter(self._answer)
        while True:
            with use_span(self._span, **QUIETLY):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """Called by the server when all was sent, or the client went."""
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            self._span.end()
