//! Whether PostgreSQL's memory barriers order memory accesses in compiled code: two instances of a
//! test module run on one memory, each in a thread of its own. `cargo xtask test barriers` runs it.
//!
//! The same code without a barrier must go wrong, or the machine or the test would not show a
//! barrier that is missing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pglite_oxide_runtime::wasm::{artifact, engine};
use wasmer::{Extern, ExternType, Global, Imports, Instance, Memory, Module, SharedMemory, Store, Table, Value};

/// The module.
const MODULE: &str = "pgl_barriers";

/// Rounds of one call.
const BATCH: u32 = 100_000;

/// Address of the two parts of the cells: `PglBarrierCells` in pgl_barriers.c.
const CELLS: [u32; 2] = [0x1_0000, 0x1_1000];

/// Where the data of the two instances is. Each has a page of 64 KiB, and its stack in the next.
const DATA: [u32; 2] = [0x2_0000, 0x4_0000];

/// Options of the program.
#[derive(Debug, Parser)]
struct Options {
    /// Directory with the artifacts of modules
    #[arg(long)]
    modules: PathBuf,
    /// Rounds with a barrier, in hundreds of thousands
    #[arg(long, default_value_t = 50)]
    batches: u32,
    /// Rounds without one, at most, in hundreds of thousands
    #[arg(long, default_value_t = 1000)]
    batches_without: u32,
}

/// What one instance does in a call.
#[derive(Debug, Clone, Copy)]
enum Run {
    WithBarrier,
    WithoutBarrier,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let cores = thread::available_parallelism().context("cannot find the number of cores")?;
    ensure!(cores.get() >= 2, "this machine has one core: on one, nothing shows a barrier that is missing");
    let artifacts = artifact::from_directory(&options.modules)?;
    let artifact = artifacts.iter().find(|artifact| artifact.name == MODULE);
    let module = engine::load(artifact.with_context(|| format!("{} has no {MODULE}", options.modules.display()))?)?;

    let mut round = 1;
    let start = Instant::now();
    let (mut seen, mut without) = (0, 0);
    while seen == 0 && without < options.batches_without {
        seen = both(&module, Run::WithoutBarrier, &mut round, 1)?;
        without += 1;
    }
    let took = start.elapsed();
    println!("without a barrier: {seen} of {} rounds out of order, {took:.1?}", u64::from(without) * u64::from(BATCH));
    ensure!(seen > 0, "no access was out of order without a barrier, so this machine shows nothing about barriers");

    let start = Instant::now();
    let seen = both(&module, Run::WithBarrier, &mut round, options.batches)?;
    let took = start.elapsed();
    println!("with a barrier: {seen} of {} rounds, {took:.1?}", u64::from(options.batches) * u64::from(BATCH));
    ensure!(seen == 0, "PostgreSQL's memory barrier does not order a store and a load that follows it");
    Ok(())
}

/// Calls both instances, and returns how often neither saw what the other stored.
fn both(module: &Module, run: Run, round: &mut u32, batches: u32) -> Result<u64> {
    let mut store = Store::new(engine::engine().clone());
    let shared = memory(module, &mut store)?;
    let mut counts = Vec::new();
    for _ in 0..batches {
        let first = *round;
        *round = first.checked_add(BATCH).context("too many rounds")?;
        let results = thread::scope(|scope| {
            let one = scope.spawn(|| call(module, shared.clone(), run, 0, first));
            let two = scope.spawn(|| call(module, shared.clone(), run, 1, first));
            [one.join(), two.join()]
        });
        for result in results {
            match result {
                Ok(count) => counts.push(count?),
                Err(_) => bail!("a thread panicked"),
            }
        }
    }
    // Both count the same rounds.
    Ok(counts.chunks(2).map(|pair| u64::from(pair[0])).sum())
}

/// The memory that the module imports, new.
fn memory(module: &Module, store: &mut Store) -> Result<SharedMemory> {
    let ty = module.imports().memories().map(|import| *import.ty()).next().context("the module imports no memory")?;
    let mut ty = ty;
    ty.minimum = ty.minimum.max(wasmer::Pages(16));
    let memory = Memory::new(store, ty)?;
    memory.as_shared(store).context("the module's memory cannot be shared")
}

/// One instance's part in a batch of rounds.
fn call(module: &Module, memory: SharedMemory, run: Run, which: usize, first: u32) -> Result<u32> {
    let mut store = Store::new(engine::engine().clone());
    let memory = memory.attach(&mut store);
    let mut imports = Imports::new();
    for import in module.imports() {
        let value: Extern = match (import.name(), import.ty()) {
            ("memory", ExternType::Memory(_)) => memory.clone().into(),
            ("__memory_base", _) => Global::new(&mut store, Value::I32(DATA[which] as i32)).into(),
            ("__table_base", _) => Global::new(&mut store, Value::I32(1)).into(),
            ("__stack_pointer", _) => Global::new_mut(&mut store, Value::I32(DATA[which] as i32 + 0x2_0000)).into(),
            (_, ExternType::Table(ty)) => {
                let mut ty = *ty;
                ty.minimum = ty.minimum.max(16);
                Table::new(&mut store, ty, Value::FuncRef(None))?.into()
            }
            (name, _) => bail!("the module imports {name}, which is unknown here"),
        };
        imports.define(import.module(), import.name(), value);
    }
    let instance = Instance::new(&mut store, module, &imports)?;
    let name = match run {
        Run::WithBarrier => "pgl_with_barrier",
        Run::WithoutBarrier => "pgl_without_barrier",
    };
    let function = instance.exports.get_typed_function::<(u32, u32, u32, u32), u32>(&store, name)?;
    Ok(function.call(&mut store, CELLS[which], CELLS[1 - which], first, BATCH)?)
}
