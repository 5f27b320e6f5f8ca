"""Modality Worklist: C-FIND of what is scheduled (PS3.4 K, PS3.7 9.1.2; IHE RAD-5).

The keys are matched as table K.6-1 says; the answer has those keys that were asked for and no others, down
into the items of sequences. Texts come in the character set of the asker where it holds them.
"""

from collections.abc import Iterable

from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from archive.attributes import Document
from archive.modality_worklist import worklist_item
from archive.workitem_search import search_workitems
from dimse.association import Association, Message
from dimse.command import Operation
from dimse.data_sets import answer, character_set_of, encode_document, read_document
from dimse.service import Dimse, Service
from dimse.statuses import CANCELLED, PENDING, SUCCESS


def on_find(dimse: Dimse, association: Association, request: Message) -> None:
    """Answer one C-FIND-RQ: a pending response for each item, then the final one."""
    keys = read_document(request.data_set(), request.context.transfer_syntax)
    fuzzy = association.extended.get(request.context.sop_class, b"")[2:3] == b"\x01"
    found = search_workitems(
        dimse.archive, association.caller, keys, view=worklist_item, worklist_only=True, fuzzy=fuzzy
    )
    answer_all(association, request, keys, found)


def answer_all(association: Association, request: Message, keys: Document, found: Iterable[Document]) -> None:
    """Send what was found until there is no more, or the peer cancels."""
    terms = character_set_of(keys)
    for each in found:
        if association.is_cancelled(request):
            association.respond(request, CANCELLED)
            return
        data = encode_document(answer(each, keys), request.context.transfer_syntax, terms)
        association.respond(request, PENDING, data)
    association.respond(request, SUCCESS)


WORKLIST = Service(
    "Modality Worklist",
    "PS3.4 K",
    (str(ModalityWorklistInformationFind),),
    {Operation.C_FIND: on_find},
    extended=b"\x00\x00\x01",  # fuzzy matching of person names (PS3.4 K.5.1.1)
)
