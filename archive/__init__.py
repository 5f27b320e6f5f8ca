"""The archive: images. Model, ingest, search, retrieve, rendering, storage.

Every image enters through `archive.ingest`, is found through `archive.search` and leaves through
`archive.retrieve`, whatever the door.
"""
