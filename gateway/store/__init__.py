"""What the gateway knows and keeps: rules, policies, upstreams, sealed credentials, client keys.

The only importer of Peewee. Start reading at `store` (what others hold), then `change` (one
transaction), then the verbs by noun. Nothing is imported here, so that a command that only speaks
to a running daemon doesn't pay for the database.
"""
