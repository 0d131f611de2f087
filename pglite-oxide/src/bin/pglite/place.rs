//! The flags that select a database and the options of its sessions, for the library's `Builder`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use pglite_oxide::{Builder, Durability, Pglite};

/// A database.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("place").required(true))]
pub(crate) struct Place {
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    session: Session,
}

/// A database, or a running server.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("place").required(true))]
pub(crate) struct Target {
    #[command(flatten)]
    root: Root,
    /// The server with this connection URI
    #[arg(long, value_name = "URI", group = "place", conflicts_with_all = ["database", "user", "extensions", "extension_bundles", "settings", "ignore_stored_settings", "durability"])]
    url: Option<String>,
    #[command(flatten)]
    session: Session,
}

#[derive(Debug, Args)]
#[group(skip)]
struct Root {
    /// The database in this directory, which is created if it does not exist
    #[arg(long, value_name = "DIR", group = "place")]
    root: Option<PathBuf>,
    /// The data directory of a PostgreSQL server, in place; the server must not run
    #[arg(long, value_name = "DIR", group = "place")]
    data_directory: Option<PathBuf>,
    /// A new database in memory, discarded at the end
    #[arg(long, group = "place")]
    temporary: bool,
    /// The database of an application of this user: APPLICATION, or
    /// QUALIFIER/ORGANIZATION/APPLICATION
    #[arg(long, value_name = "NAME", group = "place", value_parser = application)]
    app: Option<Application>,
}

#[derive(Debug, Args)]
#[group(skip)]
struct Session {
    /// Connect to this database [default: postgres]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Connect as this role [default: postgres]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Create this extension if it does not exist; may be given several times
    #[arg(long = "extension", value_name = "NAME")]
    extensions: Vec<String>,
    /// A file with more extensions, from `cargo xtask extension build`; may be given several times
    #[arg(long = "extension-bundle", value_name = "FILE")]
    extension_bundles: Vec<PathBuf>,
    /// A server setting, such as work_mem=16MB; may be given several times
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Start without the settings that the database stores, if one of them keeps it from opening
    #[arg(long)]
    ignore_stored_settings: bool,
    /// When commits are durable [default: full; none for --temporary]
    #[arg(long, value_enum)]
    durability: Option<Safety>,
}

#[derive(Debug, Clone)]
struct Application([String; 3]);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Safety {
    /// Commits survive a kill and a loss of power
    Full,
    /// The same, but the last commits (about 200 ms) can be lost
    Relaxed,
    /// Nothing
    None,
}

impl Place {
    /// The builder for the database.
    pub(crate) fn builder(&self) -> Builder {
        builder(&self.root, &self.session)
    }
}

impl Target {
    /// The server's connection URI; `None` for a database.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The builder for the database.
    pub(crate) fn builder(&self) -> Builder {
        builder(&self.root, &self.session)
    }
}

fn builder(root: &Root, session: &Session) -> Builder {
    let mut builder = Pglite::builder();
    if let Some(root) = &root.root {
        builder = builder.path(root);
    }
    if let Some(directory) = &root.data_directory {
        builder = builder.data_directory(directory);
    }
    if let Some(Application([qualifier, organization, application])) = &root.app {
        builder = builder.app(qualifier, organization, application);
    }
    if let Some(database) = &session.database {
        builder = builder.database(database);
    }
    if let Some(user) = &session.user {
        builder = builder.user(user);
    }
    builder = session.extension_bundles.iter().fold(builder, Builder::extension_bundle);
    builder = session.extensions.iter().fold(builder, Builder::extension);
    builder = session.settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value));
    if session.ignore_stored_settings {
        builder = builder.ignore_stored_settings();
    }
    match session.durability {
        Some(Safety::Full) => builder.durability(Durability::Full),
        Some(Safety::Relaxed) => builder.durability(Durability::Relaxed),
        Some(Safety::None) => builder.durability(Durability::None),
        None => builder,
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.to_string(), value.to_string()))
}

fn application(text: &str) -> Result<Application, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [application] if !application.is_empty() => Ok(Application(["", "", application].map(String::from))),
        [qualifier, organization, application] if !application.is_empty() => {
            Ok(Application([qualifier, organization, application].map(String::from)))
        }
        _ => Err("expected APPLICATION or QUALIFIER/ORGANIZATION/APPLICATION".to_string()),
    }
}
