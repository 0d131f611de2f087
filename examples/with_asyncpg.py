"""asyncpg: `python3 with_asyncpg.py` with DATABASE_URL set."""

import asyncio
import io
import json
import os
from datetime import datetime, timezone
from decimal import Decimal

import asyncpg


async def main():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    version = await connection.fetchval("SELECT version()")
    assert version.startswith("PostgreSQL 17"), version

    await connection.execute("DROP TABLE IF EXISTS item")
    await connection.execute(
        "CREATE TABLE item (id int PRIMARY KEY, name text UNIQUE, price numeric(10, 2), made timestamptz, photo bytea,"
        " detail jsonb, tag text[], weight float8, note text)"
    )

    # Values as parameters and results. JSON is text unless a codec is set.
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    name = "Käse 'n' \"Öl\"\t100 %\\ 🧀"
    made = datetime(2024, 2, 29, 12, 34, 56, 789012, timezone.utc)
    detail = {"colour": "blau", "sizes": [1, 2.5, None]}
    item = (1, name, Decimal("12345678.90"), made, bytes([0, 1, 127, 128, 255]), detail, ["a,b", None, '"c"'], 0.1 + 0.2, None)
    await connection.execute("INSERT INTO item VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", *item)
    found = await connection.fetchrow("SELECT * FROM item WHERE name = $1", name)
    assert tuple(found) == item, found
    assert found["made"] == made

    # An error has an SQLSTATE, and the connection remains usable.
    try:
        await connection.execute("INSERT INTO item (id, name) VALUES (2, $1)", name)
        raise SystemExit("the second item of a unique name was taken")
    except asyncpg.UniqueViolationError as error:
        assert error.sqlstate == "23505" and error.constraint_name == "item_name_key", error

    async def count():
        return await connection.fetchval("SELECT count(*) FROM item")

    # An exception rolls the transaction back; otherwise it is committed.
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO item (id) VALUES (2)")
            1 / 0
    except ZeroDivisionError:
        pass
    assert await count() == 1
    async with connection.transaction():
        await connection.execute("INSERT INTO item (id) VALUES (2)")
    assert await count() == 2

    # A prepared statement, and rows that are fetched on demand.
    statement = await connection.prepare("SELECT name FROM item WHERE id = $1")
    assert [len(await statement.fetch(id)) for id in (1, 2, 3)] == [1, 1, 0]
    await connection.executemany("INSERT INTO item (id) VALUES ($1)", [(id,) for id in range(100, 200)])
    async with connection.transaction():
        ids = [row["id"] async for row in connection.cursor("SELECT id FROM item ORDER BY id", prefetch=7)]
    assert ids == [1, 2, *range(100, 200)], ids

    # COPY in both directions.
    rows = [(id, f"name {id}") for id in range(1000, 2000)]
    assert await connection.copy_records_to_table("item", records=rows, columns=["id", "name"]) == "COPY 1000"
    copied = io.BytesIO()
    await connection.copy_from_query("SELECT name FROM item WHERE id >= $1 ORDER BY id", 1000, output=copied)
    assert copied.getvalue().decode().splitlines()[-1] == "name 1999"

    # A notification to the session itself; other sessions can send it as well.
    told = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda *notification: told.set_result(notification))
    await connection.execute("SELECT pg_notify('news', 'it''s new')")
    _, _, channel, payload = await asyncio.wait_for(told, timeout=10)
    assert (channel, payload) == ("news", "it's new")

    await connection.close()

    # A pool has one connection, because one session runs at a time.
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=1) as pool:
        results = await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", n) for n in range(5)))
    assert results == [0, 2, 4, 6, 8], results


asyncio.run(main())
print("asyncpg: all as expected")
