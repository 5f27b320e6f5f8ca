"""The DIMSE door: associations with modalities, archives, workstations and film printers (PS3.7, PS3.8).

One thread serves one association from its first byte to its last: it reads PDUs straight from the socket, and
the fragments of a stored object go from the receive buffer to the sealed blob without a copy of the object in
between. pynetdicom gives the PDU items of the negotiation and the table of SOP classes; its own reactor, two
polling threads for each association, receives a fifth of what the disk takes, so the transport is ours.

    upper_layer   PDUs on a socket, their limits and time limits (PS3.8)
    command       command sets to bytes and back (PS3.7 E)
    association   messages: requests, responses, data sets as streams (PS3.7, PS3.8 E)
    negotiation   who may associate, and which presentation contexts are accepted (PS3.8 7.1)
    service       what a service class is made of: SOP classes and the handler of each command
    server        listening, processes, the table of services
"""
