"""The records room: clinical documents (FHIR R4), their history and their search index."""
