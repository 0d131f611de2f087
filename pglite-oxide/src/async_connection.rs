//! The feature `async`: opening and closing databases and servers from tasks, and `tokio-postgres`
//! clients for a database in this process. The session's thread belongs to `server::session_loop`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::coop;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::error::{Error, ErrorKind, Result};
use crate::server::session_loop;
use crate::transport::pipe::ClientEnd;
use crate::{Builder, CancelToken, Listen, Pglite, PgliteServer};

/// The connection of a [`tokio_postgres::Client`] to its database in this process: a future that
/// must be polled for the client to make progress, usually by a task of its own. It completes when
/// the client has been dropped and its requests are done, with the result of the session. The
/// database is closed then, with everything in its files, and may be opened again.
///
/// If the connection is dropped before that, the session ends as well: a running statement is
/// cancelled, its transaction is rolled back, and the session's thread closes the database.
///
/// [`Self::poll_message`] returns notices and notifications; the future discards them.
#[must_use = "a client gets on only while its connection is polled"]
pub struct Connection {
    /// `None` when only the session's end is left to wait for.
    inner: Option<tokio_postgres::Connection<Stream, NoTlsStream>>,
    /// Receives the session's result.
    ended: Option<oneshot::Receiver<Result<()>>>,
    /// The error of `inner`.
    failed: Option<tokio_postgres::Error>,
    cancel: CancelToken,
}

impl Pglite {
    /// Moves the session to its own thread, and returns a `tokio-postgres` client for it with its
    /// connection. PostgreSQL never blocks a thread of the caller, with any runtime.
    ///
    /// The session keeps its settings, its temporary tables, and its transaction if one is open.
    /// Notices and notifications that were not taken are discarded, and so is the notice callback.
    /// The whole protocol is available: pipelining, COPY in both directions, notifications. Results
    /// that the client does not read wait in PostgreSQL, so memory stays bounded.
    ///
    /// [`Client::cancel_token`] does not work, because it would open a second connection. Use
    /// [`Connection::cancel_token`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let db = pglite_oxide::Pglite::builder().path("data/shop").open_async().await?;
    /// let (client, connection) = db.connect_tokio().await?;
    /// let connection = tokio::spawn(connection);
    ///
    /// let row = client.query_one("SELECT 'hello ' || $1 AS greeting", &[&"world"]).await?;
    /// assert_eq!(row.get::<_, &str>("greeting"), "hello world");
    ///
    /// drop(client);
    /// // The database is closed when this returns.
    /// connection.await??;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if the session is over; [`ErrorKind::Io`] if
    /// a thread cannot be spawned.
    pub async fn connect_tokio(self) -> Result<(Client, Connection)> {
        let mut config = tokio_postgres::Config::new();
        config.user(&self.options().user).dbname(&self.options().database);
        let cancel = self.cancel_token();
        let (tell, mut ended) = oneshot::channel();
        // The future may have been dropped.
        let end = session_loop::start(self, move |result| drop(tell.send(result)))?;
        match config.connect_raw(Stream(end), NoTls).await {
            Ok((client, inner)) => {
                Ok((client, Connection { inner: Some(inner), ended: Some(ended), failed: None, cancel }))
            }
            Err(cause) => match (&mut ended).await {
                // The session's own error says more.
                Ok(Err(error)) => Err(error),
                _ => Err(Error::new(ErrorKind::Closed, "cannot connect to the session").with_cause(cause)),
            },
        }
    }
}

impl Pglite {
    /// Closes the database on a thread of its own, so that no thread of the caller's blocks. The
    /// database may be opened again when this returns.
    ///
    /// # Errors
    /// As [`Self::close`].
    pub fn close_async(self) -> impl Future<Output = Result<()>> + Send + use<> {
        on_thread("close", move || self.close())
    }
}

impl PgliteServer {
    /// [`Self::shutdown`] on a thread of its own, so that no thread of the caller's blocks.
    ///
    /// # Errors
    /// As [`Self::shutdown`].
    pub fn shutdown_async(self) -> impl Future<Output = Result<()>> + Send + use<> {
        on_thread("shutdown", move || self.shutdown())
    }
}

/// Runs `work` on a thread of its own. If the future is dropped, the result is dropped there.
async fn on_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("pglite-oxide-{name}"))
        .spawn(move || drop(tell.send(work())))
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot spawn a thread").with_cause(cause))?;
    told.await.unwrap_or_else(|_| Err(panicked()))
}

impl Builder {
    /// [`Self::open`] on a thread of its own, so that no thread of the caller's blocks. When the
    /// database that this returns is dropped, a thread of its own closes it, too. To wait for that,
    /// for example to open the database again, use [`Pglite::close_async`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_async(&self) -> impl Future<Output = Result<Pglite>> + Send + use<> {
        let builder = self.clone();
        on_thread("open", move || {
            let mut db = builder.open()?;
            db.session.closes_on_thread = true;
            Ok(db)
        })
    }

    /// [`Self::serve`] on a thread of its own, so that no thread of the caller's blocks. When the
    /// server that this returns is dropped, a thread of its own stops it, too. To wait for that,
    /// use [`PgliteServer::shutdown_async`].
    ///
    /// # Errors
    /// As [`Self::serve`].
    pub fn serve_async(&self, listen: &Listen) -> impl Future<Output = Result<PgliteServer>> + Send + use<> {
        let (builder, listen) = (self.clone(), listen.clone());
        on_thread("serve", move || {
            let mut server = builder.serve(&listen)?;
            server.stops_on_thread = true;
            Ok(server)
        })
    }

    /// Opens the database and connects to it: [`Self::open_async`], then [`Pglite::connect_tokio`].
    ///
    /// # Errors
    /// As those two.
    pub fn connect_tokio(&self) -> impl Future<Output = Result<(Client, Connection)>> + Send + use<> {
        let open = self.open_async();
        async move { open.await?.connect_tokio().await }
    }
}

impl Connection {
    /// A handle that cancels the running statement from any thread or task. It may be used again.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// The value of a setting that PostgreSQL reports to its clients, such as `server_version`.
    /// `None` after the session has ended.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.inner.as_ref()?.parameter(name)
    }

    /// The next notice or notification; `None` when the session has ended without an error. The
    /// client makes progress only while this is polled.
    pub fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage>>> {
        if let Some(inner) = &mut self.inner {
            match ready!(inner.poll_message(context)) {
                Some(Ok(message)) => return Poll::Ready(Some(Ok(message))),
                Some(Err(cause)) => self.failed = Some(cause),
                None => (),
            }
            // It takes the stream with it: a session that still runs ends.
            self.inner = None;
        }
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        let result = ready!(Pin::new(ended).poll(context)).unwrap_or_else(|_| Err(panicked()));
        self.ended = None;
        Poll::Ready(match (result, self.failed.take()) {
            (Ok(()), None) => None,
            (Ok(()), Some(cause)) => {
                Some(Err(Error::new(ErrorKind::Protocol, "the client ended the connection in the middle of a message")
                    .with_cause(cause)))
            }
            (Err(error), _) => Some(Err(error)),
        })
    }
}

impl Future for Connection {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        while ready!(self.poll_message(context)?).is_some() {}
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ended", &self.ended.is_none()).finish_non_exhaustive()
    }
}

/// The client's end as a tokio stream.
struct Stream(ClientEnd);

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        // A task that has much to read must yield to others.
        let coop = ready!(coop::poll_proceed(context));
        let read = self.0.poll_read(context, buf.remaining(), |bytes| buf.put_slice(bytes));
        read.map(|_| {
            coop.made_progress();
            Ok(())
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let coop = ready!(coop::poll_proceed(context));
        let written = self.0.poll_write(context, bytes);
        written.map(|count| {
            coop.made_progress();
            count.ok_or_else(|| std::io::ErrorKind::BrokenPipe.into())
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Crashed, "the thread that ran PostgreSQL panicked")
}
