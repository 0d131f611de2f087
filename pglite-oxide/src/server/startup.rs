//! The start-up phase of a connection (PostgreSQL documentation, chapter "Message Flow"): packets
//! and refusals, and the answer to a client that connects to a session that is open already. It
//! owns what such a client may ask for.

use bytes::{Buf, BufMut, BytesMut};

use crate::Pglite;
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Input, Peer};

/// Longest start-up packet, in bytes: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub(crate) const PACKET_MAX: usize = 10_000;
/// Version 3.0 of the protocol; the upper half is the major version.
const VERSION: u32 = 3 << 16;
/// Request codes, in the place of the version.
pub(crate) const CANCEL_REQUEST: u32 = 80_877_102;
pub(crate) const SSL_REQUEST: u32 = 80_877_103;
pub(crate) const GSS_REQUEST: u32 = 80_877_104;

/// A start-up packet, parsed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Startup {
    user: String,
    database: String,
    /// Settings, in the order in which they take effect.
    settings: Vec<(String, String)>,
    /// Options of later versions of the protocol, which this one does not have.
    unknown: Vec<String>,
    /// The client speaks a later minor version.
    newer: bool,
}

/// Answers a client's start-up packet, gives the session the settings in it, and leaves in
/// `received` what the client sent after that. False: the client left before. The session is at
/// rest afterwards.
///
/// # Errors
/// [`ErrorKind::Config`] or [`ErrorKind::Database`] if what the client asked for cannot be, of
/// which it was told; [`ErrorKind::Closed`] if the session is over.
pub(crate) fn accept(db: &mut Pglite, end: &mut dyn Peer, received: &mut BytesMut) -> Result<bool> {
    let mut answer = BytesMut::new();
    match answer_packet(db, end, received, &mut answer) {
        Ok(true) => Ok(end.write(&mut answer, None)),
        Ok(false) => Ok(false),
        Err(error) => {
            end.write(&mut refuse(&error), None);
            Err(error)
        }
    }
}

/// The requests for encryption that a client has made.
#[derive(Debug, Default)]
pub(crate) struct Encryption {
    ssl: bool,
    gss: bool,
}

impl Encryption {
    /// The answer of a PostgreSQL without encryption, and whether the connection goes on. `ahead`:
    /// more bytes came with the request, before the client could know the answer.
    pub(crate) fn answer(&mut self, code: u32, ahead: bool) -> (BytesMut, bool) {
        let (before, what) = match code {
            GSS_REQUEST => (std::mem::replace(&mut self.gss, true), "GSSAPI encryption request"),
            _ => (std::mem::replace(&mut self.ssl, true), "SSL request"),
        };
        if before {
            // PostgreSQL reads a second request as the version of a protocol that does not exist.
            let version = format!("{}.{}", code >> 16, code & 0xffff);
            let message = format!("unsupported frontend protocol {version}: server supports 3.0 to 3.0");
            return (fatal(&SqlState::FEATURE_NOT_SUPPORTED, &message, None), false);
        }
        let mut answer = BytesMut::from(&b"N"[..]);
        if ahead {
            let message = format!("received unencrypted data after {what}");
            answer.extend_from_slice(&fatal(&SqlState::PROTOCOL_VIOLATION, &message, None));
        }
        (answer, !ahead)
    }
}

/// The name that a client gives itself in a start-up packet, with its length.
pub(crate) fn application_name(packet: &[u8]) -> Option<&str> {
    let (version, parameters) = packet.get(4..)?.split_at_checked(4)?;
    if version[..2] != VERSION.to_be_bytes()[..2] {
        return None;
    }
    let mut texts = parameters.split(|byte| *byte == 0);
    loop {
        match (texts.next()?, texts.next()?) {
            (b"", _) => return None,
            (b"application_name", value) => return std::str::from_utf8(value).ok(),
            _ => (),
        }
    }
}

fn answer_packet(db: &mut Pglite, end: &mut dyn Peer, received: &mut BytesMut, answer: &mut BytesMut) -> Result<bool> {
    let Some(packet) = read_packet(end, received)? else { return Ok(false) };
    let startup = Startup::parse(&packet)?;
    startup.apply(db)?;
    startup.welcome(db, answer)?;
    Ok(true)
}

/// The packet without its length; `None`: the client is gone.
fn read_packet(end: &mut dyn Peer, received: &mut BytesMut) -> Result<Option<BytesMut>> {
    let mut encryption = Encryption::default();
    loop {
        while received.len() < 8 {
            if end.wait(received, None) == Input::End {
                return Ok(None);
            }
        }
        let len = (&received[..4]).get_u32() as usize;
        if !(8..=PACKET_MAX).contains(&len) {
            return Err(refusal(format!("a start-up packet of {len} bytes")));
        }
        while received.len() < len {
            if end.wait(received, None) == Input::End {
                return Ok(None);
            }
        }
        let mut packet = received.split_to(len);
        packet.advance(4);
        match (&packet[..4]).get_u32() {
            code @ (SSL_REQUEST | GSS_REQUEST) => {
                let (mut answer, goes_on) = encryption.answer(code, !received.is_empty());
                if !(end.write(&mut answer, None) && goes_on) {
                    return Ok(None);
                }
            }
            _ => return Ok(Some(packet)),
        }
    }
}

impl Startup {
    fn parse(mut packet: &[u8]) -> Result<Self> {
        let version = packet.get_u32();
        if version >> 16 != VERSION >> 16 {
            return Err(refusal(format!("version {}.{} of the protocol", version >> 16, version & 0xffff)));
        }
        let mut startup = Self { newer: version != VERSION, ..Self::default() };
        let mut options = Vec::new();
        loop {
            let name = text(&mut packet)?;
            if name.is_empty() {
                break;
            }
            let value = text(&mut packet)?;
            match name.as_str() {
                "user" => startup.user = value,
                "database" => startup.database = value,
                "options" => options = parse_options(&value)?,
                "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => (),
                "replication" => return Err(refusal("replication")),
                _ if name.starts_with("_pq_.") => startup.unknown.push(name),
                _ => startup.settings.push((name, value)),
            }
        }
        if startup.database.is_empty() {
            startup.database.clone_from(&startup.user);
        }
        // As in PostgreSQL, parameters of the packet take precedence over those in `options`.
        startup.settings.splice(0..0, options);
        Ok(startup)
    }

    /// Gives the session the settings; refuses another user or database than the session has.
    fn apply(&self, db: &mut Pglite) -> Result<()> {
        for (what, wanted, has) in
            [("user", &self.user, &db.options().user), ("database", &self.database, &db.options().database)]
        {
            if wanted != has {
                return Err(refusal(format!("the {what} {wanted:?}, in a session of the {what} {has:?}")));
            }
        }
        for (name, value) in &self.settings {
            // A setting that has the value already needs no statement: a failed transaction accepts
            // none.
            if db.parameter(name) != Some(value) {
                db.execute("SELECT pg_catalog.set_config($1, $2, false)", &[name, value])?;
            }
        }
        Ok(())
    }

    /// The server's messages up to the first ReadyForQuery.
    fn welcome(&self, db: &mut Pglite, answer: &mut BytesMut) -> Result<()> {
        if self.newer || !self.unknown.is_empty() {
            put(b'v', answer, |body| {
                body.put_u32(VERSION);
                body.put_u32(self.unknown.len() as u32);
                self.unknown.iter().for_each(|name| put_text(name, body));
            })?;
        }
        put(b'R', answer, |body| body.put_u32(0))?;
        db.session.settle()?;
        let reader = db.session.reader();
        let mut parameters: Vec<_> = reader.parameters().collect();
        parameters.sort_unstable();
        for (name, value) in parameters {
            put(b'S', answer, |body| {
                put_text(name, body);
                put_text(value, body);
            })?;
        }
        let secret = getrandom::u32()
            .map_err(|cause| Error::new(ErrorKind::Io, "the system has no random numbers").with_cause(cause))?;
        put(b'K', answer, |body| {
            body.put_i32(reader.process_id);
            body.put_u32(secret);
        })?;
        put(b'Z', answer, |body| {
            body.put_u8(reader.status.to_byte());
        })
    }
}

/// Settings as PostgreSQL's command line has them: `-c name=value`, `-cname=value` or
/// `--name=value`, with `\` before a space that does not separate.
fn parse_options(options: &str) -> Result<Vec<(String, String)>> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ if character.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => Some(setting.to_string()),
            None if word == "-c" => words.next(),
            None => word.strip_prefix("-c").map(str::to_string),
        };
        match setting.as_deref().and_then(|setting| setting.split_once('=')) {
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_string())),
            None => return Err(refusal(format!("the option {word:?}; a setting is `-c name=value`"))),
        }
    }
    Ok(settings)
}

/// Takes a zero-terminated string from the front of a packet.
fn text(packet: &mut &[u8]) -> Result<String> {
    let damaged = || refusal("a damaged start-up packet");
    let len = packet.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let text = std::str::from_utf8(&packet[..len]).map_err(|_| damaged())?.to_string();
    packet.advance(len + 1);
    Ok(text)
}

fn refusal(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("the client asked for {what}"))
}

/// An ErrorResponse that ends the connection.
pub(crate) fn fatal(code: &SqlState, message: &str, hint: Option<&str>) -> BytesMut {
    let mut answer = BytesMut::new();
    let message = message.get(..64 * 1024).unwrap_or(message);
    let fields =
        [(b'S', Some("FATAL")), (b'V', Some("FATAL")), (b'C', Some(code.code())), (b'M', Some(message)), (b'H', hint)];
    let put = put(b'E', &mut answer, |body| {
        for (field, value) in fields {
            if let Some(value) = value {
                body.put_u8(field);
                put_text(&value.replace('\0', " "), body);
            }
        }
        body.put_u8(0);
    });
    debug_assert!(put.is_ok());
    answer
}

/// The ErrorResponse for a client that is refused.
fn refuse(error: &Error) -> BytesMut {
    match error.as_db_error() {
        Some(error) => fatal(error.code(), error.message(), error.hint()),
        None => fatal(&SqlState::SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION, &error.to_string(), None),
    }
}

/// Adds a message.
fn put(tag: u8, answer: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) -> Result<()> {
    answer.put_u8(tag);
    let at = answer.len();
    answer.put_u32(0);
    body(answer);
    let len = u32::try_from(answer.len() - at)
        .map_err(|cause| Error::new(ErrorKind::Protocol, "a message is too long").with_cause(cause))?;
    answer[at..at + 4].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

fn put_text(text: &str, body: &mut BytesMut) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut packet = version.to_be_bytes().to_vec();
        for (name, value) in pairs {
            packet.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        packet.push(0);
        packet
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_packet_says_who_wants_what() {
        let wanted = [("user", "ada"), ("work_mem", "8MB"), ("options", "-c work_mem=1MB --geqo=off"), ("_pq_.x", "1")];
        let startup = Startup::parse(&packet(VERSION + 2, &wanted)).unwrap();
        assert_eq!((startup.user.as_str(), startup.database.as_str(), startup.newer), ("ada", "ada", true));
        assert_eq!(startup.settings, pairs(&[("work_mem", "1MB"), ("geqo", "off"), ("work_mem", "8MB")]));
        assert_eq!(startup.unknown, ["_pq_.x"]);
    }

    #[test]
    fn options_are_words_with_escapes() {
        let options = parse_options(r"-ca=1  -c b=x\ y\\z --log-min-messages=error ").unwrap();
        assert_eq!(options, pairs(&[("a", "1"), ("b", r"x y\z"), ("log_min_messages", "error")]));
        for wrong in ["-c", "-c a", "-d 1", "a=1", "--a"] {
            assert_eq!(parse_options(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn the_name_of_an_application_is_found_as_postgresql_reads_packets() {
        let name = |version: u32, parameters: &[(&str, &str)]| {
            let packet = packet(version, parameters);
            let packet = [&(packet.len() as u32 + 4).to_be_bytes()[..], &packet].concat();
            application_name(&packet).map(str::to_string)
        };
        let probe = [("user", "application_name"), ("application_name", "pg_isready")];
        assert_eq!(name(VERSION, &probe).as_deref(), Some("pg_isready"));
        assert_eq!(name(2 << 16, &probe), None);
        assert_eq!(name(VERSION, &[("user", "application_name"), ("pg_isready", "")]), None);
        assert_eq!(name(VERSION, &[]), None);
        assert_eq!(application_name(&[0, 0, 0, 9, 0, 3]), None);
        assert_eq!(application_name(b"\0\0\0\x18\0\x03\0\0application_name"), None);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let damaged = &packet(VERSION, &[("user", "ada")])[..12];
        for wrong in [damaged, &packet(2 << 16, &[]), &packet(VERSION, &[("replication", "database")])] {
            assert_eq!(Startup::parse(wrong).unwrap_err().kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn a_client_is_told_why_it_is_refused() {
        let mut answer = refuse(&refusal("too much"));
        let message = postgres_protocol::message::backend::Message::parse(&mut answer).unwrap().unwrap();
        let postgres_protocol::message::backend::Message::ErrorResponse(body) = message else {
            panic!("another message")
        };
        let error = crate::DbError::parse(body.fields()).unwrap();
        assert_eq!((error.severity(), error.code().code()), ("FATAL", "08004"));
        assert_eq!(error.message(), "the client asked for too much");
    }
}
