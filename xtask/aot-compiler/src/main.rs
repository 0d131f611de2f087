//! `aot-compiler`: compiles WASIX modules to native code for one target with Wasmer's LLVM backend,
//! inside the build image. It owns the command line, exit codes and what is printed. It does not
//! decide which modules or features are wanted: its caller does.
//!
//! Each module gives `<name>.aot` and then `<name>.json`, which describes it: a record is never
//! there before its artifact is complete. Standard output carries the same records, one JSON object
//! a line. Exit code 3 means that the target or a CPU feature is refused; the reason is then on
//! standard error and, as JSON, on standard output.

mod compile;
mod error;
mod growth;
mod identity;
mod unwind;

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use serde_json::json;

use crate::compile::Compiler;
use crate::error::{Error, Result};

/// Exit code of a refusal, apart from failures (1) and wrong usage (2): the caller reports it for
/// the target and goes on.
const EXIT_REFUSED: u8 = 3;

/// Compiles WASIX modules ahead of time for one target.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Rust name of the target, like x86_64-unknown-linux-gnu.
    #[arg(long, value_name = "TRIPLE")]
    target: String,
    /// CPU features on top of the target's generic CPU, separated by commas.
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true)]
    cpu_features: String,
    /// Directory that receives the artifacts and their records.
    #[arg(long, value_name = "DIR", required_unless_present = "describe")]
    out: Option<PathBuf>,
    /// Number of compiler threads. It does not change a byte of the output.
    #[arg(long, value_name = "N", default_value_t = std::num::NonZeroUsize::MIN)]
    threads: std::num::NonZeroUsize,
    /// Prints the identity of what would be compiled, as JSON, and compiles nothing.
    #[arg(long)]
    describe: bool,
    /// WebAssembly modules to compile; the file name without `.wasm` names the artifact.
    #[arg(value_name = "MODULE.wasm", required_unless_present = "describe")]
    modules: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Refused { reason, target }) => {
            report_refusal(&target, &reason);
            ExitCode::from(EXIT_REFUSED)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let _ = TARGET.set(args.target.clone());
    // SAFETY: the handler is a plain function that does not return; LLVM calls it instead of ending
    // the process itself.
    unsafe { inkwell::support::error_handling::install_fatal_error_handler(on_llvm_error) };
    let compiler = Compiler::new(&args.target, &args.cpu_features, args.threads)?;
    if args.describe {
        println!("{}", json!({ "target": args.target, "identity": compiler.identity() }));
        return Ok(());
    }
    let out = args.out.as_deref().ok_or(Error::NoOutput)?;
    compile::distinct_names(&args.modules)?;
    for module in &args.modules {
        println!("{}", compiler.compile(module, out)?);
    }
    Ok(())
}

/// Target of this run, for `on_llvm_error`, which LLVM calls without any context.
static TARGET: OnceLock<String> = OnceLock::new();

/// What LLVM says of a target that Wasmer cannot make code for; anything else it gives up on is a
/// failure, which may pass.
const TARGET_REFUSALS: &[&str] = &["mach-o section specifier requires a segment and section"];

/// LLVM gives up.
extern "C" fn on_llvm_error(message: *const c_char) {
    // SAFETY: LLVM passes a string that lives during the call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    if !TARGET_REFUSALS.iter().any(|refusal| message.contains(refusal)) {
        eprintln!("error: LLVM: {message}");
        std::process::exit(1);
    }
    report_refusal(TARGET.get().map_or("", String::as_str), &format!("LLVM: {message}"));
    std::process::exit(i32::from(EXIT_REFUSED));
}

fn report_refusal(target: &str, reason: &str) {
    println!("{}", json!({ "refused": { "target": target, "reason": reason } }));
    eprintln!("refused: {target}: {reason}");
}
