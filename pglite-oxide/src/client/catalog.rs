//! Types that are not built into PostgreSQL, looked up in its catalog. It owns the session's cache
//! of them.

use std::collections::HashMap;
use std::sync::Arc;

use postgres_protocol::Oid;
use postgres_types::{Field, Kind, Type};

use crate::Pglite;
use crate::client::Row;
use crate::client::query::Limit;
use crate::client::session::Session;
use crate::client::statement::sealed::Source;
use crate::client::statement::{Column, RawColumn, Statement};
use crate::error::Result;

/// The given types and their component types, one row per type.
const LOOKUP: &str = "\
WITH RECURSIVE needed(oid) AS (
    SELECT unnest($1::pg_catalog.oid[])
  UNION
    SELECT part.oid
    FROM needed
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) needed.oid
    LEFT JOIN pg_catalog.pg_range r ON r.rngtypid OPERATOR(pg_catalog.=) t.oid
    LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid OPERATOR(pg_catalog.=) t.oid
    CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[t.typelem, t.typbasetype, r.rngsubtype, m.rngtypid])
      UNION ALL
        SELECT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND t.typtype OPERATOR(pg_catalog.=) 'c'
          AND NOT a.attisdropped AND a.attnum OPERATOR(pg_catalog.>) 0
    ) part(oid)
    WHERE part.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
)
SELECT t.oid, t.typname::text, n.nspname::text, t.typtype, t.typcategory, t.typelem, t.typbasetype,
    COALESCE(r.rngsubtype, m.rngtypid),
    ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
        WHERE e.enumtypid OPERATOR(pg_catalog.=) t.oid ORDER BY e.enumsortorder),
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND t.typtype OPERATOR(pg_catalog.=) 'c'
          AND NOT a.attisdropped AND a.attnum OPERATOR(pg_catalog.>) 0 ORDER BY a.attnum),
    ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND t.typtype OPERATOR(pg_catalog.=) 'c'
          AND NOT a.attisdropped AND a.attnum OPERATOR(pg_catalog.>) 0 ORDER BY a.attnum)
FROM needed
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) needed.oid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
LEFT JOIN pg_catalog.pg_range r ON r.rngtypid OPERATOR(pg_catalog.=) t.oid
LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid OPERATOR(pg_catalog.=) t.oid";

/// Types of one session that are not built in.
#[derive(Debug, Default)]
pub(crate) struct TypeCache {
    types: HashMap<Oid, Type>,
    lookup: Option<Statement>,
}

impl TypeCache {
    fn get(&self, oid: Oid) -> Option<Type> {
        Type::from_oid(oid).or_else(|| self.types.get(&oid).cloned())
    }

    /// Clears the cache after a statement that may have changed types.
    pub(crate) fn note(&mut self, command_tag: &str) {
        if !self.types.is_empty() && (command_tag.starts_with("ALTER ") || command_tag.starts_with("DROP ")) {
            self.types.clear();
        }
    }
}

impl Pglite {
    /// Clears the cache of types that are not built in. Needed only if a function changed a type;
    /// the effects of `ALTER` and `DROP` statements are detected.
    pub fn clear_type_cache(&mut self) {
        self.session.types.types.clear();
    }
}

impl Session {
    /// Whether all these types are known.
    pub(crate) fn knows(&self, oids: impl IntoIterator<Item = Oid>) -> bool {
        oids.into_iter().all(|oid| self.types.get(oid).is_some())
    }

    /// The types with these OIDs. Queries the catalog for unknown ones.
    pub(crate) fn types_of(&mut self, oids: &[Oid]) -> Result<Vec<Type>> {
        self.learn(oids.iter().copied())?;
        Ok(oids.iter().map(|oid| self.known(*oid)).collect())
    }

    /// As `types_of`, for columns.
    pub(crate) fn columns_of(&mut self, columns: Vec<RawColumn>) -> Result<Arc<[Column]>> {
        self.learn(columns.iter().map(|column| column.type_oid))?;
        let column = |raw: RawColumn| Column {
            type_: self.known(raw.type_oid),
            name: raw.name,
            table_oid: (raw.table_oid != 0).then_some(raw.table_oid),
            column_id: (raw.column_id != 0).then_some(raw.column_id),
        };
        Ok(columns.into_iter().map(column).collect())
    }

    fn known(&self, oid: Oid) -> Type {
        // A type that was dropped in the meantime has no name; its values are still bytes.
        self.types.get(oid).unwrap_or(Type::UNKNOWN)
    }

    fn learn(&mut self, oids: impl Iterator<Item = Oid>) -> Result<()> {
        let mut unknown: Vec<Oid> = oids.filter(|oid| self.types.get(*oid).is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let statement = match self.types.lookup.clone() {
            Some(statement) => statement,
            // Its own parameter and columns are built in: this goes no deeper.
            None => {
                let statement = self.prepare(LOOKUP, &[Type::OID_ARRAY])?;
                self.types.lookup.insert(statement).clone()
            }
        };
        let rows = self.query(Source::Prepared(&statement), &[&unknown], Limit::None)?;
        let mut raw = rows.iter().map(RawType::read).collect::<Result<Vec<_>>>()?;
        raw.retain(|raw| Type::from_oid(raw.oid).is_none());
        self.types.build(raw);
        Ok(())
    }
}

impl TypeCache {
    /// Builds types from their descriptions, components first. Not recursive, because types can be
    /// nested to any depth.
    fn build(&mut self, mut raw: Vec<RawType>) {
        while !raw.is_empty() {
            let before = raw.len();
            raw.retain(|raw| match raw.build(self) {
                Some(type_) => {
                    self.types.insert(raw.oid, type_);
                    false
                }
                None => true,
            });
            if raw.len() == before {
                // Missing components, which PostgreSQL prevents: the values are bytes.
                for raw in raw.drain(..) {
                    self.types.insert(raw.oid, Type::new(raw.name, raw.oid, Kind::Simple, raw.schema));
                }
            }
        }
    }
}

/// A row of `LOOKUP`.
struct RawType {
    oid: Oid,
    name: String,
    schema: String,
    kind: i8,
    category: i8,
    element: Oid,
    base: Oid,
    range: Option<Oid>,
    labels: Vec<String>,
    field_names: Vec<String>,
    field_types: Vec<Oid>,
}

impl RawType {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            oid: row.try_get(0)?,
            name: row.try_get(1)?,
            schema: row.try_get(2)?,
            kind: row.try_get(3)?,
            category: row.try_get(4)?,
            element: row.try_get(5)?,
            base: row.try_get(6)?,
            range: row.try_get(7)?,
            labels: row.try_get(8)?,
            field_names: row.try_get(9)?,
            field_types: row.try_get(10)?,
        })
    }

    /// The type, if its components are known.
    fn build(&self, known: &TypeCache) -> Option<Type> {
        let kind = match self.kind as u8 {
            b'e' => Kind::Enum(self.labels.clone()),
            b'p' => Kind::Pseudo,
            b'd' => Kind::Domain(known.get(self.base)?),
            b'r' => Kind::Range(known.get(self.range?)?),
            // A multirange's part is its range; what `Kind` names is the element.
            b'm' => match known.get(self.range?)?.kind() {
                Kind::Range(element) => Kind::Multirange(element.clone()),
                _ => Kind::Simple,
            },
            b'c' => {
                let fields = self.field_names.iter().zip(&self.field_types);
                let fields = fields.map(|(name, oid)| Some(Field::new(name.clone(), known.get(*oid)?)));
                Kind::Composite(fields.collect::<Option<Vec<_>>>()?)
            }
            // Fixed-length types like `point` have elements without being arrays.
            _ if self.element != 0 && self.category as u8 == b'A' => Kind::Array(known.get(self.element)?),
            _ => Kind::Simple,
        };
        Some(Type::new(self.name.clone(), self.oid, kind, self.schema.clone()))
    }
}
