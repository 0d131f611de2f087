//! Programs that start with the default treatment of signals.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has a command start with the default treatment of the signals that end a server. The tests' own
/// parent may ignore them, as `nohup` and shells do.
pub(crate) fn with_default_signals(mut command: Command) -> Command {
    // SAFETY: between fork and exec, only `signal` is called, which may be called there.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    command
}
