// node-postgres, the client of Node: `node node-pg.mjs` with DATABASE_URL set.

import assert from 'node:assert/strict'
import { once } from 'node:events'
// README: begin
import pg from 'pg'
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 1 })
const { rows } = await pool.query('SELECT version()')
// README: end

assert.match(rows[0].version, /^PostgreSQL 17/)

// The pool has one connection, because one session runs at a time.
const client = await pool.connect()
await client.query('DROP TABLE IF EXISTS item')
await client.query(
  'CREATE TABLE item (id int PRIMARY KEY, name text UNIQUE, price numeric(10, 2), made timestamptz, photo bytea, ' +
    'detail jsonb, tag text[], weight float8, note text)'
)

// Values as parameters and results. A numeric is a string, which is exact; a time has milliseconds.
const name = 'Käse \'n\' "Öl"\t100 %\\ 🧀'
const item = {
  id: 1,
  name,
  price: '12345678.90',
  made: new Date('2024-02-29T12:34:56.789Z'),
  photo: Buffer.from([0, 1, 127, 128, 255]),
  detail: { colour: 'blau', sizes: [1, 2.5, null] },
  tag: ['a,b', null, '"c"'],
  weight: 0.1 + 0.2,
  note: null
}
const inserted = await client.query('INSERT INTO item VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)', Object.values(item))
assert.equal(inserted.rowCount, 1)
const found = await client.query('SELECT * FROM item WHERE name = $1', [name])
assert.deepEqual({ ...found.rows[0] }, item)

// An error has an SQLSTATE, and the connection remains usable.
await assert.rejects(client.query('INSERT INTO item (id, name) VALUES (2, $1)', [name]), { code: '23505', constraint: 'item_name_key' })

const count = async () => Number((await client.query('SELECT count(*) FROM item')).rows[0].count)

await client.query('BEGIN')
await client.query('INSERT INTO item (id) VALUES (2)')
await client.query('ROLLBACK')
assert.equal(await count(), 1)
await client.query('BEGIN')
await client.query('INSERT INTO item (id) VALUES (2)')
await client.query('COMMIT')
assert.equal(await count(), 2)

// A query with a name is a prepared statement.
for (const id of [1, 2, 3]) {
  const found = await client.query({ name: 'find', text: 'SELECT name FROM item WHERE id = $1', values: [id] })
  assert.equal(found.rowCount, id < 3 ? 1 : 0)
}
const prepared = await client.query('SELECT name FROM pg_prepared_statements')
assert.deepEqual(prepared.rows.map(row => row.name), ['find'])

// A notification to the session itself; other sessions can send it as well.
const told = once(client, 'notification', { signal: AbortSignal.timeout(10_000) })
await client.query('LISTEN news')
await client.query("SELECT pg_notify('news', 'it''s new')")
const [{ channel, payload }] = await told
assert.deepEqual([channel, payload], ['news', "it's new"])

client.release()
await pool.end()
console.log('node-pg: all as expected')
