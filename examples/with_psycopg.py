"""psycopg 3: `python3 with_psycopg.py` with DATABASE_URL set."""

import os
from datetime import datetime, timezone
from decimal import Decimal

# README: begin
import psycopg
connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
version = connection.execute("SELECT version()").fetchone()[0]
# README: end
from psycopg import errors
from psycopg.types.json import Jsonb

assert version.startswith("PostgreSQL 17"), version

connection.execute("DROP TABLE IF EXISTS item")
connection.execute(
    "CREATE TABLE item (id int PRIMARY KEY, name text UNIQUE, price numeric(10, 2), made timestamptz, photo bytea,"
    " detail jsonb, tag text[], weight float8, note text)"
)

# Values as parameters and results.
name = "Käse 'n' \"Öl\"\t100 %\\ 🧀"
made = datetime(2024, 2, 29, 12, 34, 56, 789012, timezone.utc)
detail = {"colour": "blau", "sizes": [1, 2.5, None]}
item = (1, name, Decimal("12345678.90"), made, bytes([0, 1, 127, 128, 255]), Jsonb(detail), ["a,b", None, '"c"'], 0.1 + 0.2, None)
connection.execute("INSERT INTO item VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", item)
for binary in (False, True):
    found = connection.execute("SELECT * FROM item WHERE name = %s", [name], binary=binary).fetchone()
    expected = item[:5] + (detail,) + item[6:]
    assert found == expected, found

# An error has an SQLSTATE, and the connection remains usable.
try:
    connection.execute("INSERT INTO item (id, name) VALUES (2, %s)", [name])
    raise SystemExit("the second item of a unique name was taken")
except errors.UniqueViolation as error:
    assert error.sqlstate == "23505" and error.diag.constraint_name == "item_name_key", error


def count():
    return connection.execute("SELECT count(*) FROM item").fetchone()[0]


# An exception rolls the transaction back; otherwise it is committed.
try:
    with connection.transaction():
        connection.execute("INSERT INTO item (id) VALUES (2)")
        1 / 0
except ZeroDivisionError:
    pass
assert count() == 1
with connection.transaction():
    connection.execute("INSERT INTO item (id) VALUES (2)")
assert count() == 2

# A prepared statement, and many executions in a pipeline.
for id in (1, 2, 3):
    found = connection.execute("SELECT name FROM item WHERE id = %s", [id], prepare=True).fetchall()
    assert len(found) == (1 if id < 3 else 0), found
prepared = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
assert ("SELECT name FROM item WHERE id = $1",) in prepared, prepared
with connection.cursor() as cursor:
    cursor.executemany("INSERT INTO item (id) VALUES (%s)", [(id,) for id in range(100, 200)])
assert count() == 102

# COPY in both directions.
with connection.cursor() as cursor:
    with cursor.copy("COPY item (id, name) FROM STDIN") as copy:
        for id in range(1000, 2000):
            copy.write_row((id, f"name {id}"))
    assert cursor.rowcount == 1000
    with cursor.copy("COPY (SELECT id, name FROM item WHERE id >= 1000 ORDER BY id) TO STDOUT") as copy:
        rows = list(copy.rows())
assert len(rows) == 1000 and rows[-1] == ("1999", "name 1999"), rows[-1]

# A notification to the session itself; other sessions can send it as well.
notifications = []
connection.add_notify_handler(notifications.append)
connection.execute("LISTEN news")
connection.execute("SELECT pg_notify('news', 'it''s new')")
connection.execute("SELECT 1")
assert [(n.channel, n.payload) for n in notifications] == [("news", "it's new")], notifications

connection.close()
print("psycopg: all as expected")
