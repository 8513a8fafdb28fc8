"""The schema's history: numbered files, each with its own frozen copy of the tables it makes.

A file has one function, `up(database)`. What has been released is never edited; a change of the
schema is a new file, and `models` follows it.
"""
