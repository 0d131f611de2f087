//! The SQL that turns a bootstrapped `template1` into a cluster: PostgreSQL's setup files in their
//! order, and between them the statements of `initdb`.
//!
//! The order follows the dependencies: objects made before `pg_stop_making_pinned_objects` can
//! never be dropped, everything after it can.

/// Path of PostgreSQL's share files in the guest.
pub(crate) const SHARE: &str = "/usr/share/postgresql";

/// One piece of the script.
#[derive(Debug)]
pub(crate) enum Step {
    /// A file of the share directory, run as one query.
    File(&'static str),
    /// A statement.
    Sql(&'static str),
}

use Step::{File, Sql};

/// All steps, to be run in `template1` by a superuser who may change system catalogs.
pub(crate) const STEPS: &[Step] = &[
    Sql("REVOKE ALL ON pg_authid FROM public"),
    File("system_constraints.sql"),
    File("system_functions.sql"),
    Sql("SELECT pg_stop_making_pinned_objects()"),
    File("system_views.sql"),
    // Functions that implement operators get a description derived from the operator's, unless one
    // of them has another.
    Sql("INSERT INTO pg_description (objoid, classoid, objsubid, description)
         SELECT o.oprcode, 'pg_proc'::regclass, 0, 'implementation of ' || o.oprname || ' operator'
         FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
         WHERE NOT EXISTS (SELECT FROM pg_description d WHERE d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass)
           AND NOT EXISTS (SELECT FROM pg_description d WHERE d.objoid = o.oid AND d.classoid = 'pg_operator'::regclass
                           AND d.description LIKE 'deprecated%')"),
    File("snowball_create.sql"),
    // All roles may read the catalogs; the owner's rights are granted explicitly as well.
    Sql("UPDATE pg_class SET relacl = ARRAY['=r/\"postgres\"'::aclitem]
             || acldefault((CASE relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\", 10)
         WHERE relkind IN ('r', 'v', 'm', 'S') AND relacl IS NULL"),
    Sql("GRANT USAGE ON SCHEMA pg_catalog, public TO public"),
    Sql("REVOKE ALL ON pg_largeobject FROM public"),
    // The initial privileges, for pg_dump, of every kind of object that has some.
    Sql("INSERT INTO pg_init_privs (objoid, classoid, objsubid, initprivs, privtype)
         SELECT objoid, classoid, objsubid, acl, 'i' FROM (
             SELECT oid, 'pg_class'::regclass, 0, relacl FROM pg_class
             UNION ALL SELECT a.attrelid, 'pg_class'::regclass, a.attnum, a.attacl
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind IN ('r', 'v', 'm', 'S')
             UNION ALL SELECT oid, 'pg_proc'::regclass, 0, proacl FROM pg_proc
             UNION ALL SELECT oid, 'pg_type'::regclass, 0, typacl FROM pg_type
             UNION ALL SELECT oid, 'pg_language'::regclass, 0, lanacl FROM pg_language
             UNION ALL SELECT oid, 'pg_largeobject_metadata'::regclass, 0, lomacl FROM pg_largeobject_metadata
             UNION ALL SELECT oid, 'pg_namespace'::regclass, 0, nspacl FROM pg_namespace
             UNION ALL SELECT oid, 'pg_foreign_data_wrapper'::regclass, 0, fdwacl FROM pg_foreign_data_wrapper
             UNION ALL SELECT oid, 'pg_foreign_server'::regclass, 0, srvacl FROM pg_foreign_server
         ) AS initial (objoid, classoid, objsubid, acl)
         WHERE acl IS NOT NULL"),
    File("information_schema.sql"),
    Sql("UPDATE information_schema.sql_implementation_info
         SET character_value = to_char(v / 10000, 'FM00') || '.' || to_char(v % 10000, 'FM00') || '.0000'
         FROM (SELECT current_setting('server_version_num')::int AS v) AS server
         WHERE implementation_info_name = 'DBMS VERSION'"),
    Sql("COPY information_schema.sql_features (feature_id, feature_name, sub_feature_id, sub_feature_name, is_supported, comments)
         FROM '/usr/share/postgresql/sql_features.txt'"),
    Sql("CREATE EXTENSION plpgsql"),
    Sql("ANALYZE"),
    Sql("VACUUM FREEZE"),
    // The identifiers of template0 and postgres are fixed by PostgreSQL.
    Sql("CREATE DATABASE template0 IS_TEMPLATE = true ALLOW_CONNECTIONS = false OID = 4 STRATEGY = file_copy"),
    Sql("UPDATE pg_database SET datcollversion = NULL WHERE datname = 'template0'"),
    Sql("UPDATE pg_database SET datcollversion = pg_database_collation_actual_version(oid) WHERE datname = 'template1'"),
    Sql("REVOKE CREATE, TEMPORARY ON DATABASE template1 FROM public"),
    Sql("REVOKE CREATE, TEMPORARY ON DATABASE template0 FROM public"),
    Sql("COMMENT ON DATABASE template0 IS 'unmodifiable empty database'"),
    Sql("VACUUM pg_database"),
    Sql("CREATE DATABASE postgres OID = 5 STRATEGY = file_copy"),
    Sql("COMMENT ON DATABASE postgres IS 'default administrative connection database'"),
];
