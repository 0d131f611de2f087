//! NotificationResponse: what NOTIFY sends to sessions that LISTEN.

/// A notification, sent by NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    process_id: i32,
    channel: String,
    payload: String,
}

impl Notification {
    #[doc(hidden)]
    pub fn new(process_id: i32, channel: String, payload: String) -> Self {
        Self { process_id, channel, payload }
    }

    /// Process ID of the session that sent it.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Its channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Its payload.
    pub fn payload(&self) -> &str {
        &self.payload
    }
}
