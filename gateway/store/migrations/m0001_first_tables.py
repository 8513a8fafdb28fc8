"""The first schema."""

from __future__ import annotations

import peewee
from playhouse.sqlite_ext import AutoIncrementField


def up(database: peewee.Database) -> None:
    """Make the tables.

    Ids are never used again: the older of two rules wins by its id, and a breaker's memory of a
    credential must not meet a new credential. SQLite needs to be told so.
    """
    auto = AutoIncrementField if isinstance(database, peewee.SqliteDatabase) else peewee.AutoField

    class Table(peewee.Model):
        class Meta:
            legacy_table_names = False

    class Rule(Table):
        id = auto()
        pattern = peewee.TextField()
        priority = peewee.IntegerField()
        enabled = peewee.BooleanField()
        policy = peewee.TextField()
        note = peewee.TextField()

        class Meta:
            table_name = "rules"

    class Target(Table):
        id = auto()
        rule = peewee.ForeignKeyField(Rule, on_delete="CASCADE")
        position = peewee.IntegerField()
        backend = peewee.TextField()
        model = peewee.TextField(null=True)

        class Meta:
            table_name = "targets"
            indexes = ((("rule", "position"), True),)

    class Policy(Table):
        name = peewee.TextField(primary_key=True)
        knobs = peewee.TextField()

        class Meta:
            table_name = "policies"

    class Upstream(Table):
        name = peewee.TextField(primary_key=True)
        dialect = peewee.TextField()
        base_url = peewee.TextField()
        auth = peewee.TextField()
        headers = peewee.TextField()
        query = peewee.TextField()
        connect_s = peewee.FloatField()
        list_models = peewee.BooleanField()
        enabled = peewee.BooleanField()
        note = peewee.TextField()

        class Meta:
            table_name = "upstreams"

    class Credential(Table):
        id = auto()
        upstream = peewee.TextField(index=True)
        name = peewee.TextField()
        version = peewee.IntegerField()
        hint = peewee.TextField()
        sealed = peewee.BlobField()
        enabled = peewee.BooleanField()

        class Meta:
            table_name = "credentials"
            indexes = ((("upstream", "name"), True),)

    class ClientKey(Table):
        id = auto()
        name = peewee.TextField(unique=True)
        digest = peewee.BlobField(unique=True)
        prefix = peewee.TextField()
        admin = peewee.BooleanField()
        enabled = peewee.BooleanField()
        expires_at = peewee.DoubleField(null=True)

        class Meta:
            table_name = "client_keys"

    class History(Table):
        id = auto()
        at = peewee.DoubleField()
        actor = peewee.TextField()
        noun = peewee.TextField()
        name = peewee.TextField()
        action = peewee.TextField()
        before = peewee.TextField(null=True)
        after = peewee.TextField(null=True)

        class Meta:
            table_name = "history"

    class Meta(Table):
        key = peewee.TextField(primary_key=True)
        value = peewee.TextField()

        class Meta:
            table_name = "meta"

    tables = [Rule, Target, Policy, Upstream, Credential, ClientKey, History, Meta]
    with database.bind_ctx(tables):
        database.create_tables(tables, safe=False)
