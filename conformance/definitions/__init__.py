"""R4's own conformance resources: `r4.zip`, one JSON file each, and an index.

Origin: the npm package `hl7.fhir.r4.examples` 4.0.1 by Health Level Seven International, CC0-1.0.
`build.py` beside this file makes `r4.zip` from it.
"""
