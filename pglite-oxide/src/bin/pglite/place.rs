//! Which database a command is about, and what its sessions start with: the flags for what the library's `Builder` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pglite_oxide::{Builder, Durability, Pglite};

/// A database.
#[derive(Debug, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    root: Root,
    /// Connect to this database
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    database: String,
    /// Connect as this role
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    user: String,
    /// Create this extension if it is not there; may be given several times
    #[arg(long = "extension", value_name = "NAME")]
    extensions: Vec<String>,
    /// A server setting, such as work_mem=16MB; may be given several times
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// What a commit survives [default: full, none for --temporary]
    #[arg(long, value_enum)]
    durability: Option<Safety>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Root {
    /// The database in this directory, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A new database in memory, gone at the end
    #[arg(long)]
    temporary: bool,
    /// The database of an application of this user: APPLICATION, or QUALIFIER/ORGANIZATION/APPLICATION
    #[arg(long, value_name = "NAME", value_parser = application)]
    app: Option<Application>,
}

#[derive(Debug, Clone)]
struct Application([String; 3]);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Safety {
    /// Kill and loss of power
    Full,
    /// The same, but the commits of the last moments can be lost
    Relaxed,
    /// Nothing
    None,
}

impl Place {
    /// What opens the database.
    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Pglite::builder().database(&self.database).user(&self.user);
        if let Some(root) = &self.root.root {
            builder = builder.path(root);
        }
        if let Some(Application([qualifier, organization, application])) = &self.root.app {
            builder = builder.app(qualifier, organization, application);
        }
        for extension in &self.extensions {
            builder = builder.extension(extension);
        }
        for (name, value) in &self.settings {
            builder = builder.setting(name, value);
        }
        match self.durability {
            Some(Safety::Full) => builder.durability(Durability::Full),
            Some(Safety::Relaxed) => builder.durability(Durability::Relaxed),
            Some(Safety::None) => builder.durability(Durability::None),
            None => builder,
        }
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
