"""The kernel: what every room stands on. It knows no medicine.

Errors, settings, database, encryption at rest, the change feed, jobs, HTTP pieces, clock and logs.
"""
