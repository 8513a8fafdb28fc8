"""The tables. They hold columns, not logic, and never leave `store`.

Which database a table is in follows from the thread: every open database has one thread, and that
thread alone can reach its tables. Anywhere else a query fails at once instead of blocking the loop.
"""

from __future__ import annotations

import threading
from typing import Any

from peewee import (
    AutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    Database,
    DatabaseProxy,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

_thread = threading.local()


class _ThreadsDatabase(DatabaseProxy):
    """Stands for the database of the current thread."""

    @property
    def obj(self) -> Database | None:
        return getattr(_thread, "database", None)

    @obj.setter
    def obj(self, value: Any) -> None:
        """Peewee's own constructor says None here; there is nothing to keep."""


_here = _ThreadsDatabase()


def use_in_this_thread(database: Database | None) -> None:
    """Say which database the tables are in, for the calling thread."""
    _thread.database = database


class _Table(Model):
    class Meta:
        database = _here
        legacy_table_names = False


class RuleRow(_Table):
    id = AutoField()
    pattern = TextField()
    priority = IntegerField()
    enabled = BooleanField()
    policy = TextField()
    note = TextField()

    class Meta:
        table_name = "rules"


class TargetRow(_Table):
    id = AutoField()
    rule_id: int
    rule = ForeignKeyField(RuleRow, on_delete="CASCADE")
    position = IntegerField()
    backend = TextField()
    model = TextField(null=True)  # null keeps the name that came

    class Meta:
        table_name = "targets"
        indexes = ((("rule", "position"), True),)


class PolicyRow(_Table):
    name = TextField(primary_key=True)
    knobs = TextField()  # JSON object of the knobs that were set

    class Meta:
        table_name = "policies"


class UpstreamRow(_Table):
    name = TextField(primary_key=True)
    dialect = TextField()
    base_url = TextField()
    auth = TextField()
    headers = TextField()  # JSON object
    query = TextField()  # JSON object
    connect_s = DoubleField()
    list_models = BooleanField()
    enabled = BooleanField()
    note = TextField()
    abilities = TextField()  # JSON list of objects
    spread = TextField()

    class Meta:
        table_name = "upstreams"


class CredentialRow(_Table):
    id = AutoField()
    upstream = TextField(index=True)
    name = TextField()
    version = IntegerField()
    hint = TextField()
    sealed = BlobField()
    enabled = BooleanField()
    weight = IntegerField()

    class Meta:
        table_name = "credentials"
        indexes = ((("upstream", "name"), True),)


class ClientKeyRow(_Table):
    id = AutoField()
    name = TextField(unique=True)
    digest = BlobField(unique=True)
    prefix = TextField()
    admin = BooleanField()
    enabled = BooleanField()
    expires_at = DoubleField(null=True)  # Unix time

    class Meta:
        table_name = "client_keys"


class HistoryRow(_Table):
    id = AutoField()
    at = DoubleField()  # Unix time
    actor = TextField()
    noun = TextField()
    name = TextField()
    action = TextField()
    before = TextField(null=True)  # JSON object without secrets
    after = TextField(null=True)

    class Meta:
        table_name = "history"


class RequestRow(_Table):
    id = AutoField()
    at = DoubleField()  # Unix time of its end
    request_id = TextField()
    client = TextField()
    method = TextField()
    path = TextField()
    model = TextField()
    rule = TextField()
    served_by = TextField()
    attempts = TextField()
    status = IntegerField()
    stream = BooleanField()
    seconds = DoubleField()
    first_content_s = DoubleField(null=True)
    input_tokens = BigIntegerField(null=True)
    output_tokens = BigIntegerField(null=True)
    cached_tokens = BigIntegerField(null=True)
    broken = TextField()
    other_input_tokens = BigIntegerField(null=True)  # of attempts that did not serve
    other_output_tokens = BigIntegerField(null=True)

    class Meta:
        table_name = "requests"


class StandingRow(_Table):
    id = AutoField()
    backend = TextField()
    model = TextField(null=True)  # null: of a credential, for all its models
    credential_id = BigIntegerField(null=True)
    version = IntegerField()  # of the credential's secret
    outcome = TextField()
    at = DoubleField()  # Unix time of the saving
    left_s = DoubleField(null=True)  # at that time; null: for good
    told_s = DoubleField()  # that part of it which the upstream told
    count = IntegerField()  # how often in a row

    class Meta:
        table_name = "standings"


class MetaRow(_Table):
    key = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "meta"
