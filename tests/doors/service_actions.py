"""What each DIMSE operation and each HL7 v2 message needs: the table that the matrix of nodes goes by.

A service or message that is not here fails the suite, as a route does (`tests.doors.route_actions`).
"""

OPEN = ""  # to every known node

DIMSE_ACTIONS = {  # name of the service, operation
    ("Verification", "C_ECHO"): OPEN,
    ("Query", "C_FIND"): "ImagingStudy.s",
    ("Retrieve", "C_GET"): "ImagingStudy.r",
    ("Retrieve (move)", "C_MOVE"): "ImagingStudy.r",
    ("Instance and Frame Level Retrieve", "C_GET"): "ImagingStudy.r",
    ("Instance and Frame Level Retrieve (move)", "C_MOVE"): "ImagingStudy.r",
    ("Composite Instance Retrieve Without Bulk Data", "C_GET"): "ImagingStudy.r",
    ("Modality Worklist", "C_FIND"): "Workitem.s",
    ("Storage", "C_STORE"): "ImagingStudy.c",
    ("Modality Performed Procedure Step", "N_CREATE"): "Workitem.u",
    ("Modality Performed Procedure Step", "N_SET"): "Workitem.u",
    ("Modality Performed Procedure Step Retrieve", "N_GET"): "Workitem.r",
    ("Storage Commitment Push Model", "N_ACTION"): "ImagingStudy.c",
    ("Unified Procedure Step - Push", "N_CREATE"): "Workitem.c",
    ("Unified Procedure Step - Push", "N_GET"): "Workitem.r",
    ("Unified Procedure Step - Push", "N_ACTION"): "Workitem.u",
    ("Unified Procedure Step - Watch", "C_FIND"): "Workitem.s",
    ("Unified Procedure Step - Watch", "N_GET"): "Workitem.r",
    ("Unified Procedure Step - Watch", "N_ACTION"): "Workitem.u",
    ("Unified Procedure Step - Pull", "C_FIND"): "Workitem.s",
    ("Unified Procedure Step - Pull", "N_GET"): "Workitem.r",
    ("Unified Procedure Step - Pull", "N_SET"): "Workitem.u",
    ("Unified Procedure Step - Pull", "N_ACTION"): "Workitem.u",
    ("Unified Procedure Step - Query", "C_FIND"): "Workitem.s",
    # a film is the association's own from N-CREATE until N-ACTION prints it
    ("Print Management", "N_CREATE"): "ImagingStudy.c",
    ("Print Management", "N_SET"): OPEN,
    ("Print Management", "N_GET"): OPEN,
    ("Print Management", "N_ACTION"): "ImagingStudy.c",
    ("Print Management", "N_DELETE"): OPEN,
    ("Presentation LUT", "N_CREATE"): OPEN,
    ("Presentation LUT", "N_DELETE"): OPEN,
    ("Basic Annotation Box", "N_SET"): OPEN,
    ("Printer", "N_GET"): OPEN,
    ("Printer Configuration Retrieval", "N_GET"): OPEN,
    ("Print Job", "N_GET"): OPEN,
}

MESSAGE_ACTION = "Message.c"  # of every message; the rooms ask again for what it changes
