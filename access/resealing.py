"""The job that brings names and other texts of rows under the ring's current key (`kernel.resealing`)."""

from datetime import timedelta

from access.tokens import Access
from kernel.jobs import job
from kernel.resealing import reseal_table, sealed_tables


@job(queue="default", retries=1, every=timedelta(minutes=10))
def reseal_rows(access: Access) -> None:
    """Go on with the pass through every table of every room that has sealed columns, to its end."""
    for table in sealed_tables():
        reseal_table(access.database, access.keys, table)
