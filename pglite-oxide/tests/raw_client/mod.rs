//! A client that sends bytes and reads messages, for what no driver sends.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use pglite_oxide::PgliteServer;

/// The code in the place of a version with which a client asks for TLS.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub(crate) const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
pub(crate) const SYNC: &[u8] = b"S\0\0\0\x04";
pub(crate) const FLUSH: &[u8] = b"H\0\0\0\x04";
pub(crate) const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// A message of the server: its tag and its body.
pub(crate) type Message = (u8, Vec<u8>);

pub(crate) struct RawClient {
    pub stream: TcpStream,
}

impl RawClient {
    /// Connects, and says nothing yet.
    pub(crate) fn connect(server: &PgliteServer) -> Self {
        let stream = TcpStream::connect(server.addr().expect("a TCP server")).unwrap();
        stream.set_nodelay(true).unwrap();
        // What has not come by then hangs.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Self { stream }
    }

    /// Connects and waits until the session is ready.
    pub(crate) fn ready(server: &PgliteServer) -> Self {
        let mut client = Self::connect(server);
        client.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
        let messages = client.until(b'Z');
        assert!(messages.iter().all(|(tag, _)| *tag != b'E'), "{messages:?}");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Says that it sends no more.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next message; `None` at the end.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        match self.stream.read(&mut head[..1]).unwrap() {
            0 => return None,
            _ => self.stream.read_exact(&mut head[1..]).unwrap(),
        }
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        self.stream.read_exact(&mut body).unwrap();
        Some((head[0], body))
    }

    /// All messages up to one with this tag.
    pub(crate) fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.message();
            let message = message.unwrap_or_else(|| panic!("the end, after {}", text(&messages)));
            messages.push(message);
            if messages.last().unwrap().0 == tag {
                return messages;
            }
        }
    }

    /// All bytes up to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            // The server may have closed the connection while bytes of the client were unread.
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("no end: {error}"),
            _ => rest,
        }
    }
}

/// A start-up packet of version 3.0.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for (name, value) in parameters {
        packet.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    packet.push(0);
    let len = packet.len() as u32;
    packet[..4].copy_from_slice(&len.to_be_bytes());
    packet
}

/// A message of a client.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

/// Parse, without a name.
pub(crate) fn parse(sql: &str) -> Vec<u8> {
    message(b'P', format!("\0{sql}\0\0\0").as_bytes())
}

/// Bind of text parameters to the statement without a name, with results as text.
pub(crate) fn bind(parameters: &[&str]) -> Vec<u8> {
    let mut body = b"\0\0\0\0".to_vec();
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        body.extend((parameter.len() as u32).to_be_bytes());
        body.extend(parameter.as_bytes());
    }
    body.extend([0, 0]);
    message(b'B', &body)
}

/// Execute of the portal without a name, to its end.
pub(crate) fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

/// The tags of messages, and the SQLSTATE of errors: `1 2 E:22012 Z`.
pub(crate) fn text(messages: &[Message]) -> String {
    let texts = messages.iter().map(|(tag, body)| match tag {
        b'E' => format!("E:{}", field(body, b'C')),
        tag => char::from(*tag).to_string(),
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// A field of an error.
pub(crate) fn field(error: &[u8], field: u8) -> String {
    let found = error.split(|byte| *byte == 0).find(|part| part.first() == Some(&field));
    found.map(|part| String::from_utf8_lossy(&part[1..]).into_owned()).unwrap_or_default()
}
