//! How clients reach a server: its address, connection URIs, variables of the environment and the
//! configuration of a client. It owns their forms; where the server listens is `listen`'s.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Address, PgliteServer};

/// Everything but what a URI never encodes.
const URI_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in the value of a parameter, where a path keeps its slashes.
const URI_PARAMETER: &AsciiSet = &URI_PART.remove(b'/');

/// Variables with which libpq, and drivers that follow it, would connect to another server than the
/// one they are given, as somebody else, or refuse this one (PostgreSQL documentation, "Environment
/// Variables" of libpq). `PGOPTIONS`, `PGAPPNAME`, `PGCONNECT_TIMEOUT`, `PGCLIENTENCODING`,
/// `PGDATESTYLE`, `PGTZ` and `PGGEQO` say what the session is like, whatever the server: they stay.
const REDIRECTING: [&str; 38] = [
    "DATABASE_URL",
    "PGCHANNELBINDING",
    "PGDATABASE",
    "PGGSSDELEGATION",
    "PGGSSENCMODE",
    "PGGSSLIB",
    "PGHOST",
    "PGHOSTADDR",
    "PGKRBSRVNAME",
    "PGLOADBALANCEHOSTS",
    "PGMAXPROTOCOLVERSION",
    "PGMINPROTOCOLVERSION",
    "PGOAUTHDEBUG",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGREALM",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCERTMODE",
    "PGSSLCOMPRESSION",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLKEYLOGFILE",
    "PGSSLMAXPROTOCOLVERSION",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
    "PGSSLSNI",
    "PGSYSCONFDIR",
    "PGTARGETSESSIONATTRS",
    "PGUSER",
];

impl PgliteServer {
    /// The connection URI for clients, with user, database and, if set, the password;
    /// percent-encoded.
    ///
    /// ```text
    /// postgresql://postgres@127.0.0.1:54321/postgres
    /// postgresql://postgres@%2Frun%2Fshop:5432/postgres
    /// ```
    pub fn connection_uri(&self) -> String {
        let host = match &self.shared.bound.address {
            Address::Tcp(address) if address.is_ipv6() => format!("[{}]", reachable(*address).ip()),
            Address::Tcp(address) => reachable(*address).ip().to_string(),
            Address::Unix(directory) => encode(&directory.to_string_lossy()),
        };
        format!("postgresql://{}@{host}:{}/{}", self.user_info(), self.port(), encode(&self.options.database))
    }

    /// The connection URI with host and port as parameters: for a Unix socket, the form that libpq,
    /// node-postgres, asyncpg, psycopg and SQLAlchemy read. Drivers that parse URIs strictly, like
    /// sqlx, read [`Self::connection_uri`].
    ///
    /// ```text
    /// postgresql://postgres@/postgres?host=/run/shop&port=5432
    /// ```
    pub fn connection_uri_with_host_parameter(&self) -> String {
        let host = utf8_percent_encode(&self.host(), URI_PARAMETER).to_string();
        let database = encode(&self.options.database);
        format!("postgresql://{}@/{database}?host={host}&port={}", self.user_info(), self.port())
    }

    /// The environment variables that PostgreSQL's programs and libraries use to connect: `PGHOST`,
    /// `PGPORT`, `PGUSER`, `PGDATABASE`, `PGPASSWORD`; and `DATABASE_URL` with
    /// [`Self::connection_uri`].
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("DATABASE_URL", self.connection_uri()),
            ("PGHOST", self.host()),
            ("PGPORT", self.port().to_string()),
            ("PGUSER", self.options.user.clone()),
            ("PGDATABASE", self.options.database.clone()),
        ];
        variables.extend(self.shared.listen.password.clone().map(|password| ("PGPASSWORD", password)));
        variables
    }

    /// Has a command connect to this server: sets the variables of [`Self::environment`] and
    /// removes those that would lead it to another server, or have it refuse this one, such as
    /// `PGSERVICE`, `PGHOSTADDR` and `PGSSLMODE`.
    pub fn set_environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        REDIRECTING.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.environment())
    }

    /// The TCP port, or the number in the name of the Unix socket.
    pub fn port(&self) -> u16 {
        match &self.shared.bound.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => self.shared.listen.socket_number(),
        }
    }

    /// The TCP address that clients of this machine connect to. `None`: the server listens at a
    /// Unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.shared.bound.address {
            Address::Tcp(address) => Some(reachable(*address)),
            Address::Unix(_) => None,
        }
    }

    /// The path of the Unix socket. `None`: the server listens at a TCP address.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.shared.bound.address {
            Address::Tcp(_) => None,
            Address::Unix(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port()))),
        }
    }

    /// The configuration of a `tokio-postgres` client for this server, with the password if there
    /// is one.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let listen = pglite_oxide::Listen::tcp();
    /// let server = pglite_oxide::Pglite::builder().serve_async(&listen).await?;
    /// let config = server.config();
    /// let (client, connection) = config.connect(pglite_oxide::tokio_postgres::NoTls).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "async")]
    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(self.host()).port(self.port()).user(&self.options.user).dbname(&self.options.database);
        if let Some(password) = &self.shared.listen.password {
            config.password(password);
        }
        config
    }

    /// As libpq is given it.
    fn host(&self) -> String {
        match &self.shared.bound.address {
            Address::Tcp(address) => reachable(*address).ip().to_string(),
            Address::Unix(directory) => directory.to_string_lossy().into_owned(),
        }
    }

    /// User and password as a URI has them.
    fn user_info(&self) -> String {
        let password = self.shared.listen.password.as_ref().map(|password| format!(":{}", encode(password)));
        format!("{}{}", encode(&self.options.user), password.unwrap_or_default())
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, URI_PART).to_string()
}

/// An address to connect to: one that stands for all of a machine's is reached at loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
