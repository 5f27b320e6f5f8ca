"""The FHIR R4 door: one interaction a file, every URL on one screen (`routes`)."""
