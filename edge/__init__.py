"""The edge: bringing in what a hospital had before, and what lies at its rim.

pull      history from an old PACS, slice by slice, counted and reported
model     its tables
"""
