"""What failover remembers and is told: standings of targets, abilities, weights."""

from __future__ import annotations

import peewee

from gateway.store import sql

_COLUMNS = (
    "upstreams ADD COLUMN abilities TEXT NOT NULL DEFAULT '[]'",
    "upstreams ADD COLUMN spread TEXT NOT NULL DEFAULT 'order'",
    "credentials ADD COLUMN weight INTEGER NOT NULL DEFAULT 1",
    "requests ADD COLUMN other_input_tokens BIGINT",
    "requests ADD COLUMN other_output_tokens BIGINT",
)


def up(database: peewee.Database) -> None:
    """Make the table and add the columns; what is there keeps the meaning it had."""
    # Every save replaces all rows, which would use up 32 bits of PostgreSQL's usual key one day.
    auto = peewee.AutoField if isinstance(database, peewee.SqliteDatabase) else peewee.BigAutoField

    class Standing(peewee.Model):
        id = auto()
        backend = peewee.TextField()
        model = peewee.TextField(null=True)
        credential_id = peewee.BigIntegerField(null=True)
        version = peewee.IntegerField()
        outcome = peewee.TextField()
        at = peewee.DoubleField()
        left_s = peewee.DoubleField(null=True)
        told_s = peewee.DoubleField()
        count = peewee.IntegerField()

        class Meta:
            table_name = "standings"

    with database.bind_ctx([Standing]):
        database.create_tables([Standing], safe=False)
    for column in _COLUMNS:
        sql.run(database, f"ALTER TABLE {column}")
