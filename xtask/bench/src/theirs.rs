//! The native side of the benchmark: a client of the `postgres` crate, as a program would use it,
//! and a bare socket for the cost of the protocol alone. Each has its own server process.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};
use postgres_protocol::message::{backend::Message, frontend};

use crate::error::{Context as _, Error, Result};
use crate::machine;
use crate::session::{Operation, Session};

/// The address of a server.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// Directory of the socket.
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
}

/// A session with a native server.
pub(crate) struct Theirs {
    client: Client,
    bare: Bare,
    statement: Option<Statement>,
}

impl Address {
    /// A client of the `postgres` crate, connected to a database.
    pub(crate) fn connect(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(&self.directory).port(self.port).user("postgres").dbname(database);
        config.connect(NoTls).context(|| format!("cannot connect to the native server in {}", self.directory.display()))
    }
}

impl Theirs {
    /// Connects twice. If a core is given, the server processes for it are bound to that core.
    pub(crate) fn connect(address: &Address, core: Option<usize>) -> Result<Self> {
        let client = address.connect("postgres")?;
        let bare = Bare::connect(&address.directory.join(format!(".s.PGSQL.{}", address.port)))?;
        let mut session = Self { client, bare, statement: None };
        if let Some(core) = core {
            let pid = session.value("SELECT pg_backend_pid()")?;
            for pid in [pid, session.bare.process.to_string()] {
                let pid = pid.parse().context(|| format!("the server says that {pid} is a process"))?;
                machine::pin_process(pid, core)?;
            }
        }
        Ok(session)
    }
}

impl Session for Theirs {
    fn offers(&self, _operation: Operation) -> bool {
        true
    }

    fn simple(&mut self, sql: &str) -> Result<usize> {
        let messages = self.client.simple_query(sql).context(|| failed(sql))?;
        Ok(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
    }

    fn value(&mut self, sql: &str) -> Result<String> {
        let messages = self.client.simple_query(sql).context(|| failed(sql))?;
        let value = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        value.ok_or_else(|| Error::new(format!("native: no value: {sql}")))
    }

    fn failure(&mut self, sql: &str) -> Result<String> {
        match self.client.simple_query(sql) {
            Ok(_) => Err(Error::new(format!("native: expected an error: {sql}"))),
            Err(error) => match error.code() {
                Some(state) => Ok(state.code().to_owned()),
                None => Err(Error::new(failed(sql)).cause(error)),
            },
        }
    }

    fn bare(&mut self, sql: &str) -> Result<usize> {
        self.bare.message.clear();
        frontend::query(sql, &mut self.bare.message).context(|| failed(sql))?;
        self.bare.round_trip().context(|| failed(sql))
    }

    fn sync(&mut self) -> Result<()> {
        self.bare.message.clear();
        frontend::sync(&mut self.bare.message);
        self.bare.round_trip().map(|_| ()).context(|| "native: Sync".into())
    }

    fn prepare(&mut self, sql: &str) -> Result<()> {
        self.statement = Some(self.client.prepare(sql).context(|| failed(sql))?);
        Ok(())
    }

    fn prepared(&mut self, parameters: &[i32]) -> Result<usize> {
        let statement = self.statement.as_ref().ok_or_else(|| Error::new("native: no statement is prepared"))?;
        let mut values: [&(dyn ToSql + Sync); 4] = [&0i32; 4];
        let used = values.get_mut(..parameters.len()).ok_or_else(|| Error::new("native: too many parameters"))?;
        for (slot, parameter) in used.iter_mut().zip(parameters) {
            *slot = parameter;
        }
        let rows = self.client.query(statement, used).context(|| failed("a prepared statement"))?;
        Ok(rows.len())
    }

    fn copy_in(&mut self, sql: &str, rows: &[u8]) -> Result<u64> {
        let mut writer = self.client.copy_in(sql).context(|| failed(sql))?;
        writer.write_all(rows).context(|| failed(sql))?;
        writer.finish().context(|| failed(sql))
    }
}

/// A connection without a client library: one write, and as many reads as the answer needs.
struct Bare {
    stream: UnixStream,
    message: BytesMut,
    answer: BytesMut,
    chunk: Vec<u8>,
    /// The server's process for this connection.
    process: i32,
}

impl Bare {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|e| Error::io("connect to", socket, e))?;
        let mut bare =
            Self { stream, message: BytesMut::new(), answer: BytesMut::new(), chunk: vec![0; 64 << 10], process: 0 };
        let parameters = [("user", "postgres"), ("database", "postgres")];
        frontend::startup_message(parameters, &mut bare.message).map_err(|e| Error::io("connect to", socket, e))?;
        bare.round_trip()?;
        Ok(bare)
    }

    /// Sends the message and reads until the server is ready again. Returns the number of rows.
    fn round_trip(&mut self) -> Result<usize> {
        let broken = |e: std::io::Error| Error::new("the connection to the native server broke").cause(e);
        self.stream.write_all(&self.message).map_err(broken)?;
        let mut rows = 0;
        loop {
            while let Some(message) = Message::parse(&mut self.answer).map_err(broken)? {
                match message {
                    Message::DataRow(_) => rows += 1,
                    Message::BackendKeyData(body) => self.process = body.process_id(),
                    Message::ErrorResponse(_) => return Err(Error::new("the native server answered with an error")),
                    Message::ReadyForQuery(_) => return Ok(rows),
                    _ => {}
                }
            }
            let count = self.stream.read(&mut self.chunk).map_err(broken)?;
            if count == 0 {
                return Err(Error::new("the native server closed the connection"));
            }
            self.answer.extend_from_slice(&self.chunk[..count]);
        }
    }
}

fn failed(sql: &str) -> String {
    format!("native: {sql}")
}
