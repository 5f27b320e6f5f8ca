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
}

MESSAGE_ACTION = "Message.c"  # of every message; the rooms ask again for what it changes
