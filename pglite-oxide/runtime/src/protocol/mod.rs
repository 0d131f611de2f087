//! PostgreSQL's frontend/backend protocol (PostgreSQL documentation, chapter "Frontend/Backend
//! Protocol"): reading a server's output, and tracking it while it passes. It does no I/O.

mod notification;
mod reader;
mod tracker;

pub use notification::Notification;
pub use reader::{NoticeCallback, Reader, TransactionStatus};
pub use tracker::{CancelKey, Follower};
