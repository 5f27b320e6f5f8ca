"""Where this service and its resources are (PS3.18 8.1, Base URI; 10.1.1, resources)."""

from kernel.http import base_url, room
from kernel.settings import Settings

ROOT = "/dicomweb"

STUDY = "/studies/<study>"
SERIES = STUDY + "/series/<series>"
INSTANCE = SERIES + "/instances/<instance>"


def service_base() -> str:
    """The base URI of the service for this request: from the settings, else from the request as it came
    in."""
    return base_url(room(Settings).web.public_url) + ROOT
