"""The HL7 v2 door: messages over MLLP, HTTP and SOAP, kept as they came before they are acknowledged.

`mllp` frames and serves; `receiving` keeps, answers and processes; `messages` is the table of what is
understood; `adt`, `orders`, `results`, `scheduling`, `documents` and `queries` hold one chapter each.
"""
