"""The request ledger."""

from __future__ import annotations

import peewee


def up(database: peewee.Database) -> None:
    """Make the table.

    It has no index but its key: every row is written, few are looked up, and a look goes from the
    newest row back over a number of rows that is bounded.
    """
    # 32 bits of PostgreSQL's usual key would be used up in eight months of 100 requests a second.
    auto = peewee.AutoField if isinstance(database, peewee.SqliteDatabase) else peewee.BigAutoField

    class Request(peewee.Model):
        id = auto()
        at = peewee.DoubleField()
        request_id = peewee.TextField()
        client = peewee.TextField()
        method = peewee.TextField()
        path = peewee.TextField()
        model = peewee.TextField()
        rule = peewee.TextField()
        served_by = peewee.TextField()
        attempts = peewee.TextField()
        status = peewee.IntegerField()
        stream = peewee.BooleanField()
        seconds = peewee.DoubleField()
        first_content_s = peewee.DoubleField(null=True)
        input_tokens = peewee.BigIntegerField(null=True)
        output_tokens = peewee.BigIntegerField(null=True)
        cached_tokens = peewee.BigIntegerField(null=True)
        broken = peewee.TextField()

        class Meta:
            table_name = "requests"

    with database.bind_ctx([Request]):
        database.create_tables([Request], safe=False)
