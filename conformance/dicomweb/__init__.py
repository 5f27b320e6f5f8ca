"""A DICOMweb service checked from outside, by its URL alone: one row for each requirement of PS3.18.

It can be pointed at any server. It stores its own small study under UIDs that are new in each run, asks for
it in every way that the standard has, and says of each row whether it holds.
"""
