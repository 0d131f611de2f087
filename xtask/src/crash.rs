//! `cargo xtask crash`: tests what a database survives. It builds the program `crash` and starts it
//! with the requested runs; crashing and checking belong to that program.

use std::path::PathBuf;
use std::process::Command;

use crate::cargo::{SharedTarget, succeed};
use crate::error::{Context as _, Error, Result};
use crate::paths::Paths;

/// Default number of rounds.
const ROUNDS: u64 = 500;

/// Options of `crash`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Kill a committing process this many times [default: 500, if no other run is requested]
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Rebuild this many disks as a loss of power could leave them
    #[arg(long, value_name = "N")]
    power_loss: Option<u64>,
    /// Make each disk operation of a small workload fail
    #[arg(long)]
    faults: bool,
    /// With --faults: only every N-th operation
    #[arg(long, value_name = "N", default_value_t = 1)]
    stride: u64,
    /// Repeat the run with this seed; each run prints its own
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Directory for the databases that are killed [default: a temporary directory, in memory where
    /// the system has one]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Options {
    /// A small run of each kind, for `cargo xtask test`.
    pub(crate) fn slice() -> Self {
        Self { rounds: Some(20), power_loss: Some(40), faults: true, stride: 97, ..Self::default() }
    }
}

/// Runs the requested tests.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    // Held until the program has run, so that the program that runs is the one built here.
    let target = SharedTarget::acquire(paths)?;
    succeed(&mut target.build(&["--bin", "crash"]))?;
    for (verb, arguments) in options.runs() {
        let mut command = Command::new(target.release().join("crash"));
        command.arg(verb).args(arguments);
        if let Some(seed) = options.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        if let (Some(root), "rounds") = (&options.root, verb) {
            command.arg("--root").arg(root);
        }
        let status = command.status().context(|| "cannot start the program that crashes databases".into())?;
        if !status.success() {
            return Err(
                Error::new(format!("crash {verb} failed: {status}")).repair("see above for the seed that repeats it")
            );
        }
    }
    Ok(())
}

impl Options {
    /// Verbs of the program, with their arguments.
    fn runs(&self) -> Vec<(&'static str, Vec<String>)> {
        let nothing_else = self.power_loss.is_none() && !self.faults;
        let rounds = self.rounds.or(nothing_else.then_some(ROUNDS));
        let arguments = |name: &str, value: u64| vec![name.to_string(), value.to_string()];
        let rounds = rounds.map(|rounds| ("rounds", arguments("--rounds", rounds)));
        let power_loss = self.power_loss.map(|states| ("power-loss", arguments("--states", states)));
        let faults = self.faults.then(|| ("faults", arguments("--stride", self.stride)));
        [rounds, power_loss, faults].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_the_default_and_the_rest_is_asked_for() {
        let verbs = |options: Options| options.runs().into_iter().map(|(verb, _)| verb).collect::<Vec<_>>();
        assert_eq!(verbs(Options::default()), ["rounds"]);
        assert_eq!(Options::default().runs()[0].1, ["--rounds", "500"]);
        assert_eq!(verbs(Options { power_loss: Some(1), ..Options::default() }), ["power-loss"]);
        assert_eq!(verbs(Options::slice()), ["rounds", "power-loss", "faults"]);
    }
}
