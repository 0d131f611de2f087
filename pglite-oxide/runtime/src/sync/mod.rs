//! Helpers for threads. They know nothing of PostgreSQL.

pub mod delay_queue;
