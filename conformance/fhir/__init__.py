"""A checker of any FHIR R4 server by its URL."""
