"""The services of the imaging workflow, from worklist to film, for the tuple of `dimse.server`."""

from dimse import commitment, ups
from dimse.availability import NOTIFYING
from dimse.commitment import COMMITMENT
from dimse.mpps import MPPS_SERVICES
from dimse.printing import PRINT_SERVICES
from dimse.service import AskedService, Service
from dimse.ups import UPS_SERVICES
from dimse.worklist import WORKLIST

WORKFLOW_SERVICES: tuple[Service, ...] = (
    WORKLIST,
    *MPPS_SERVICES,
    COMMITMENT,
    *UPS_SERVICES,
    *PRINT_SERVICES,
)

ASKED_WORKFLOW: tuple[AskedService, ...] = (NOTIFYING, commitment.REPORTING, ups.REPORTING)
