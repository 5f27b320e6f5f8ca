"""The page of an address that leads nowhere, for people: programs get a problem (RFC 9457) from the edge."""

from flask import Response, make_response, render_template, request

from portal.catalogue import language, say


def is_a_person() -> bool:
    """Whether a browser shows the answer as a page: it would rather have HTML than a problem."""
    best = request.accept_mimetypes.best_match(("application/problem+json", "text/html"))
    return request.method == "GET" and best == "text/html"


def missing_page() -> Response:
    """Say in the visitor's language that there is nothing here, and where the first page is."""
    html = render_template(
        "message.html",
        say=say,
        language=language(),
        title=say("page.missing-title"),
        message=say("page.missing"),
        home=True,
    )
    return make_response(html, 404)
