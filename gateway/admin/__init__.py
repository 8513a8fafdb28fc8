"""The operations: one table of verbs, run by the command directly and by the daemon over HTTP.

`operations` is the table and the way in; one file per noun. Either way in gets the same result.
"""
