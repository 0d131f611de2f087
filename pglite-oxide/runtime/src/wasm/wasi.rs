//! WASI's calls for files, clocks and random numbers, in place of wasmer-wasix's: synchronous,
//! without locks other than the volume's, with offsets, renames and listings as in POSIX. It owns
//! the binary layouts of the calls.

use wasmer::{Exports, Function, FunctionEnv, FunctionEnvMut, StoreMut};

use super::fd_table::{Files, Node, REMOVED, ROOT_FD, Target, Whence};
use crate::fs::errno::{Errno, Result};
use crate::fs::{Kind, OpenOptions, RawSlice, RawSliceMut};
use crate::wasm::import_state::{ImportState, call};
use crate::wasm::memory::GuestMemory;

type Env<'a> = FunctionEnvMut<'a, ImportState>;

/// Path of the preopened directory.
const PREOPEN: &[u8] = b"/";

const FILETYPE_UNKNOWN: u8 = 0;
const FILETYPE_CHARACTER_DEVICE: u8 = 2;
const FILETYPE_DIRECTORY: u8 = 3;
const FILETYPE_REGULAR_FILE: u8 = 4;

const OFLAGS_CREAT: u32 = 1;
const OFLAGS_DIRECTORY: u32 = 2;
const OFLAGS_EXCL: u32 = 4;
const OFLAGS_TRUNC: u32 = 8;

const FDFLAGS_APPEND: u32 = 1;
/// Means nothing for files, as POSIX says, and channels never wait. Streams that wait refuse it.
const FDFLAGS_NONBLOCK: u32 = 4;

const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_SEEK: u64 = 1 << 2;
const RIGHT_FD_TELL: u64 = 1 << 5;
const RIGHT_FD_WRITE: u64 = 1 << 6;
/// Every right of WASI preview 1. Access is decided by how a file was opened, not by rights.
const RIGHTS_ALL: u64 = (1 << 30) - 1;

const FSTFLAGS_MTIM: u32 = 4;
const FSTFLAGS_MTIM_NOW: u32 = 8;

/// Bytes of a directory entry's head in `fd_readdir`.
const DIRENT_LEN: usize = 24;

/// The calls implemented here, by name.
pub fn exports(env: &FunctionEnv<ImportState>, store: &mut StoreMut<'_>) -> Exports {
    let mut exports = Exports::new();
    macro_rules! define {
        ($($name:ident),* $(,)?) => {
            $(exports.insert(stringify!($name), Function::new_typed_with_env(store, env, $name));)*
        };
    }
    define!(
        chdir,
        clock_time_get,
        fd_advise,
        fd_allocate,
        fd_close,
        fd_datasync,
        fd_dup,
        fd_dup2,
        fd_fdflags_get,
        fd_fdflags_set,
        fd_fdstat_get,
        fd_fdstat_set_flags,
        fd_fdstat_set_rights,
        fd_filestat_get,
        fd_filestat_set_size,
        fd_filestat_set_times,
        fd_pipe,
        fd_pread,
        fd_prestat_dir_name,
        fd_prestat_get,
        fd_pwrite,
        fd_read,
        fd_readdir,
        fd_renumber,
        fd_seek,
        fd_sync,
        fd_tell,
        fd_write,
        getcwd,
        path_create_directory,
        path_filestat_get,
        path_filestat_set_times,
        path_link,
        path_open,
        path_open2,
        path_readlink,
        path_remove_directory,
        path_rename,
        path_symlink,
        path_unlink_file,
        random_get,
    );
    exports
}

fn clock_time_get(env: Env<'_>, clock: u32, _precision: u64, out: u32) -> i32 {
    call(env, |host, memory| {
        let now_ns = match clock {
            0 => host.clock.realtime_ns(),
            1..=3 => host.clock.monotonic_ns(),
            _ => return Err(Errno::INVAL),
        };
        memory.write(out, &now_ns.to_le_bytes())
    })
}

fn random_get(env: Env<'_>, buf: u32, len: u32) -> i32 {
    call(env, |host, memory| memory.fill(buf, len, |piece| host.rng.fill(piece).map_err(|_| Errno::IO)))
}

fn fd_advise(env: Env<'_>, fd: u32, _offset: u64, _len: u64, _advice: u32) -> i32 {
    call(env, |host, _| host.files.descriptor(fd).map(drop))
}

fn fd_allocate(env: Env<'_>, fd: u32, offset: u64, len: u64) -> i32 {
    call(env, |host, _| {
        offset.checked_add(len).ok_or(Errno::FBIG)?;
        host.files.allocate(fd, offset, len, host.clock.stamp_ns())
    })
}

fn fd_close(env: Env<'_>, fd: u32) -> i32 {
    call(env, |host, _| host.files.close(fd))
}

fn fd_datasync(env: Env<'_>, fd: u32) -> i32 {
    call(env, |host, _| host.files.sync(fd, true))
}

fn fd_sync(env: Env<'_>, fd: u32) -> i32 {
    call(env, |host, _| host.files.sync(fd, false))
}

fn fd_dup(env: Env<'_>, fd: u32, out: u32) -> i32 {
    call(env, |host, memory| memory.write(out, &host.files.duplicate(fd, 0, false)?.to_le_bytes()))
}

fn fd_dup2(env: Env<'_>, fd: u32, least: u32, close_on_exec: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        let number = host.files.duplicate(fd, least, close_on_exec != 0)?;
        memory.write(out, &number.to_le_bytes())
    })
}

fn fd_renumber(env: Env<'_>, from: u32, to: u32) -> i32 {
    call(env, |host, _| {
        host.files.duplicate_onto(from, to)?;
        if from == to { Ok(()) } else { host.files.close(from) }
    })
}

fn fd_fdflags_get(env: Env<'_>, fd: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        let flags = u16::from(host.files.descriptor(fd)?.close_on_exec);
        memory.write(out, &flags.to_le_bytes())
    })
}

fn fd_fdflags_set(env: Env<'_>, fd: u32, flags: u32) -> i32 {
    call(env, |host, _| {
        host.files.descriptor_mut(fd)?.close_on_exec = flags & 1 != 0;
        Ok(())
    })
}

fn fd_fdstat_get(env: Env<'_>, fd: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        let filetype = filetype(&host.files, fd)?;
        let descriptor = host.files.descriptor(fd)?;
        let hidden = match (&descriptor.target, descriptor.writable) {
            (Target::Log, _) => RIGHT_FD_READ,
            // libc recognizes a terminal by their absence.
            (Target::Stream(stream), _) if stream.is_terminal() => RIGHT_FD_SEEK | RIGHT_FD_TELL,
            (_, false) if filetype != FILETYPE_DIRECTORY => RIGHT_FD_WRITE,
            _ => 0,
        };
        let mut stat = [0; 24];
        stat[0] = filetype;
        stat[2] = u8::from(descriptor.append);
        stat[8..16].copy_from_slice(&(RIGHTS_ALL & !hidden).to_le_bytes());
        stat[16..24].copy_from_slice(&RIGHTS_ALL.to_le_bytes());
        memory.write(out, &stat)
    })
}

fn fd_fdstat_set_flags(env: Env<'_>, fd: u32, flags: u32) -> i32 {
    call(env, |host, _| {
        let descriptor = host.files.descriptor_mut(fd)?;
        let is_node = matches!(descriptor.target, Target::Node(_));
        descriptor.append = append_flag(flags, is_node)?;
        Ok(())
    })
}

fn fd_fdstat_set_rights(env: Env<'_>, fd: u32, _base: u64, _inheriting: u64) -> i32 {
    call(env, |host, _| host.files.descriptor(fd).map(drop))
}

fn fd_filestat_get(env: Env<'_>, fd: u32, out: u32) -> i32 {
    call(env, |host, memory| match host.files.stat(fd)? {
        Some(node) => memory.write(out, &filestat(&node)),
        None => {
            let mut bytes = [0; 64];
            bytes[16] = FILETYPE_CHARACTER_DEVICE;
            memory.write(out, &bytes)
        }
    })
}

fn fd_filestat_set_size(env: Env<'_>, fd: u32, len: u64) -> i32 {
    call(env, |host, _| host.files.set_len(fd, len, host.clock.stamp_ns()))
}

fn fd_filestat_set_times(env: Env<'_>, fd: u32, _accessed_ns: u64, modified_ns: u64, flags: u32) -> i32 {
    call(env, |host, _| match (&host.files.descriptor(fd)?.target, modification_time(flags, modified_ns, host)) {
        (Target::Node(handle), Some(time_ns)) => handle.set_modified(time_ns),
        _ => Ok(()),
    })
}

/// Guests need no pipes: latches wait in the host.
fn fd_pipe(_env: Env<'_>, _read: u32, _write: u32) -> i32 {
    i32::from(Errno::NOSYS.0)
}

fn fd_prestat_get(env: Env<'_>, fd: u32, out: u32) -> i32 {
    call(env, |_, memory| {
        if fd != ROOT_FD {
            return Err(Errno::BADF);
        }
        let mut prestat = [0; 8];
        prestat[4] = PREOPEN.len() as u8;
        memory.write(out, &prestat)
    })
}

fn fd_prestat_dir_name(env: Env<'_>, fd: u32, out: u32, len: u32) -> i32 {
    call(env, |_, memory| match fd {
        ROOT_FD if len as usize >= PREOPEN.len() => memory.write(out, PREOPEN),
        ROOT_FD => Err(Errno::NAMETOOLONG),
        _ => Err(Errno::BADF),
    })
}

fn fd_read(env: Env<'_>, fd: u32, vectors: u32, count: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        // A stream may have no more data at present; a partial read is enough.
        let is_stream = matches!(host.files.descriptor(fd)?.target, Target::Stream(_));
        let total =
            read_vectors(
                memory,
                vectors,
                count,
                |buf, done| {
                    if is_stream && done > 0 { Ok(0) } else { host.files.read(fd, buf) }
                },
            )?;
        memory.write(out, &total.to_le_bytes())
    })
}

fn fd_pread(env: Env<'_>, fd: u32, vectors: u32, count: u32, offset: u64, out: u32) -> i32 {
    call(env, |host, memory| {
        let total = read_vectors(memory, vectors, count, |buf, done| {
            let position = offset.checked_add(u64::from(done)).ok_or(Errno::INVAL)?;
            host.files.read_at(fd, position, buf)
        })?;
        memory.write(out, &total.to_le_bytes())
    })
}

fn fd_write(env: Env<'_>, fd: u32, vectors: u32, count: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        let now_ns = host.clock.stamp_ns();
        let total = write_vectors(memory, vectors, count, |data, _| host.files.write(fd, data, now_ns))?;
        memory.write(out, &total.to_le_bytes())
    })
}

fn fd_pwrite(env: Env<'_>, fd: u32, vectors: u32, count: u32, offset: u64, out: u32) -> i32 {
    call(env, |host, memory| {
        let now_ns = host.clock.stamp_ns();
        let total = write_vectors(memory, vectors, count, |data, done| {
            let position = offset.checked_add(u64::from(done)).ok_or(Errno::FBIG)?;
            host.files.write_at(fd, position, data, now_ns)
        })?;
        memory.write(out, &total.to_le_bytes())
    })
}

fn fd_readdir(env: Env<'_>, fd: u32, buf: u32, len: u32, cookie: u64, out: u32) -> i32 {
    call(env, |host, memory| {
        let entries = host.files.list(fd, cookie == 0)?;
        let mut target = memory.range_mut(buf, len)?;
        let mut used = 0;
        let first = usize::try_from(cookie).unwrap_or(usize::MAX).min(entries.len());
        for (index, entry) in entries.iter().enumerate().skip(first) {
            let mut head = [0; DIRENT_LEN];
            head[..8].copy_from_slice(&(index as u64 + 1).to_le_bytes());
            head[8..16].copy_from_slice(&entry.ino.to_le_bytes());
            head[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
            head[20] = kind_filetype(entry.kind);
            // A full buffer, even in the middle of an entry, makes libc call again from that
            // entry's cookie.
            for piece in [&head[..], entry.name.as_bytes()] {
                let count = piece.len().min(target.len() - used);
                target.part(used, count).copy_from(&piece[..count]);
                used += count;
            }
            if used == target.len() {
                break;
            }
        }
        memory.write(out, &(used as u32).to_le_bytes())
    })
}

fn fd_seek(env: Env<'_>, fd: u32, delta: i64, whence: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        let whence = match whence {
            0 => Whence::Start,
            1 => Whence::Current,
            2 => Whence::End,
            _ => return Err(Errno::INVAL),
        };
        memory.write(out, &host.files.seek(fd, delta, whence)?.to_le_bytes())
    })
}

fn fd_tell(env: Env<'_>, fd: u32, out: u32) -> i32 {
    call(env, |host, memory| memory.write(out, &host.files.seek(fd, 0, Whence::Current)?.to_le_bytes()))
}

/// WASIX passes the capacity through `len` and takes the length back.
fn getcwd(env: Env<'_>, buf: u32, len: u32) -> i32 {
    call(env, |host, memory| {
        let path = match host.files.working_directory() {
            "" => REMOVED,
            path => path,
        };
        let capacity = memory.read_u32(len)? as usize;
        memory.write(len, &(path.len() as u32).to_le_bytes())?;
        if path.len() > capacity {
            return Err(Errno::RANGE);
        }
        memory.write(buf, path.as_bytes())?;
        let end = buf.checked_add(path.len() as u32).ok_or(Errno::FAULT)?;
        if path.len() < capacity { memory.write(end, &[0]) } else { Ok(()) }
    })
}

fn chdir(env: Env<'_>, path: u32, len: u32) -> i32 {
    call(env, |host, memory| host.files.change_directory(&memory.text(path, len)?))
}

fn path_create_directory(env: Env<'_>, fd: u32, path: u32, len: u32) -> i32 {
    call(env, |host, memory| host.files.create_directory((fd, &memory.text(path, len)?), host.clock.stamp_ns()))
}

fn path_remove_directory(env: Env<'_>, fd: u32, path: u32, len: u32) -> i32 {
    call(env, |host, memory| host.files.remove_directory((fd, &memory.text(path, len)?), host.clock.stamp_ns()))
}

fn path_unlink_file(env: Env<'_>, fd: u32, path: u32, len: u32) -> i32 {
    call(env, |host, memory| host.files.remove_file((fd, &memory.text(path, len)?), host.clock.stamp_ns()))
}

fn path_rename(env: Env<'_>, from: u32, from_path: u32, from_len: u32, to: u32, to_path: u32, to_len: u32) -> i32 {
    call(env, |host, memory| {
        let (from_path, to_path) = (memory.text(from_path, from_len)?, memory.text(to_path, to_len)?);
        host.files.rename((from, &from_path), (to, &to_path), host.clock.stamp_ns())
    })
}

#[expect(clippy::too_many_arguments, reason = "WASI's signature")]
fn path_link(
    env: Env<'_>,
    from: u32,
    _flags: u32,
    from_path: u32,
    from_len: u32,
    to: u32,
    to_path: u32,
    to_len: u32,
) -> i32 {
    call(env, |host, memory| {
        let (from_path, to_path) = (memory.text(from_path, from_len)?, memory.text(to_path, to_len)?);
        host.files.hard_link((from, &from_path), (to, &to_path), host.clock.stamp_ns())
    })
}

/// Symbolic links would serve tablespaces outside the data directory, which this file system does
/// not have.
fn path_symlink(_env: Env<'_>, _target: u32, _target_len: u32, _fd: u32, _path: u32, _len: u32) -> i32 {
    i32::from(Errno::NOTSUP.0)
}

fn path_readlink(env: Env<'_>, fd: u32, path: u32, len: u32, _buf: u32, _buf_len: u32, _out: u32) -> i32 {
    call(env, |host, memory| {
        host.files.stat_path((fd, &memory.text(path, len)?))?;
        Err(Errno::INVAL)
    })
}

fn path_filestat_get(env: Env<'_>, fd: u32, _flags: u32, path: u32, len: u32, out: u32) -> i32 {
    call(env, |host, memory| {
        let node = host.files.stat_path((fd, &memory.text(path, len)?))?;
        memory.write(out, &filestat(&node))
    })
}

#[expect(clippy::too_many_arguments, reason = "WASI's signature")]
fn path_filestat_set_times(
    env: Env<'_>,
    fd: u32,
    _flags: u32,
    path: u32,
    len: u32,
    _accessed_ns: u64,
    modified_ns: u64,
    time_flags: u32,
) -> i32 {
    call(env, |host, memory| {
        let time_ns = modification_time(time_flags, modified_ns, host);
        host.files.set_modified_path((fd, &memory.text(path, len)?), time_ns)
    })
}

#[expect(clippy::too_many_arguments, reason = "WASI's signature")]
fn path_open(
    env: Env<'_>,
    fd: u32,
    lookup_flags: u32,
    path: u32,
    len: u32,
    open_flags: u32,
    rights: u64,
    inheriting: u64,
    descriptor_flags: u32,
    out: u32,
) -> i32 {
    path_open2(env, fd, lookup_flags, path, len, open_flags, rights, inheriting, descriptor_flags, 0, out)
}

#[expect(clippy::too_many_arguments, reason = "WASIX's signature")]
fn path_open2(
    env: Env<'_>,
    fd: u32,
    _lookup_flags: u32,
    path: u32,
    len: u32,
    open_flags: u32,
    rights: u64,
    _inheriting: u64,
    descriptor_flags: u32,
    extended_flags: u32,
    out: u32,
) -> i32 {
    call(env, |host, memory| {
        let options = OpenOptions {
            create: open_flags & OFLAGS_CREAT != 0,
            exclusive: open_flags & OFLAGS_EXCL != 0,
            truncate: open_flags & OFLAGS_TRUNC != 0,
            directory: open_flags & OFLAGS_DIRECTORY != 0,
            // libc requests every right of a directory when it opens one.
            write: rights & RIGHT_FD_WRITE != 0 && open_flags & OFLAGS_DIRECTORY == 0,
        };
        let append = append_flag(descriptor_flags, true)?;
        let number = host.files.open((fd, &memory.text(path, len)?), options, append, host.clock.stamp_ns())?;
        host.files.descriptor_mut(number)?.close_on_exec = extended_flags & 1 != 0;
        memory.write(out, &number.to_le_bytes())
    })
}

/// Reads into each vector in turn until one stays partly empty; returns the number of bytes read.
fn read_vectors(
    memory: &GuestMemory<'_>,
    vectors: u32,
    count: u32,
    mut read: impl FnMut(RawSliceMut<'_>, u32) -> Result<usize>,
) -> Result<u32> {
    transfer(count, |index, total| {
        let (address, len) = vector(memory, vectors, index)?;
        Ok((read(memory.range_mut(address, len)?, total)?, len))
    })
}

/// Writes each vector in turn until one is not written whole; returns the number of bytes written.
fn write_vectors(
    memory: &GuestMemory<'_>,
    vectors: u32,
    count: u32,
    mut write: impl FnMut(RawSlice<'_>, u32) -> Result<usize>,
) -> Result<u32> {
    transfer(count, |index, total| {
        let (address, len) = vector(memory, vectors, index)?;
        Ok((write(memory.range(address, len)?, total)?, len))
    })
}

/// Transfers vector after vector until one is not transferred whole. `one` is given the number of
/// the vector and what was transferred before it; it returns how much of how many bytes was. What
/// was transferred before an error counts: as POSIX says, the caller is told of that, and of the
/// error when it goes on.
fn transfer(count: u32, mut one: impl FnMut(u32, u32) -> Result<(usize, u32)>) -> Result<u32> {
    let mut total = 0u32;
    for index in 0..count {
        let (done, len) = match one(index, total) {
            Ok(transferred) => transferred,
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        };
        total = total.checked_add(done as u32).ok_or(Errno::INVAL)?;
        if (done as u32) < len {
            break;
        }
    }
    Ok(total)
}

fn vector(memory: &GuestMemory<'_>, vectors: u32, index: u32) -> Result<(u32, u32)> {
    let place = index.checked_mul(8).and_then(|offset| vectors.checked_add(offset)).ok_or(Errno::FAULT)?;
    Ok((memory.read_u32(place)?, memory.read_u32(place.checked_add(4).ok_or(Errno::FAULT)?)?))
}

/// Whether the flags of a descriptor ask for appending. A flag that this file system does not
/// honour is refused: a guest that asks for synced writes (DSYNC, SYNC) must not believe that it
/// has them.
fn append_flag(flags: u32, is_node: bool) -> Result<bool> {
    let honoured = FDFLAGS_APPEND | if is_node { FDFLAGS_NONBLOCK } else { 0 };
    if flags & !honoured == 0 { Ok(flags & FDFLAGS_APPEND != 0) } else { Err(Errno::INVAL) }
}

fn modification_time(flags: u32, modified_ns: u64, host: &ImportState) -> Option<u64> {
    match flags {
        flags if flags & FSTFLAGS_MTIM_NOW != 0 => Some(host.clock.stamp_ns()),
        flags if flags & FSTFLAGS_MTIM != 0 => Some(modified_ns),
        _ => None,
    }
}

fn filetype(files: &Files, fd: u32) -> Result<u8> {
    Ok(files.stat(fd)?.map_or(FILETYPE_CHARACTER_DEVICE, |node| kind_filetype(node.stat.kind)))
}

fn kind_filetype(kind: Kind) -> u8 {
    match kind {
        Kind::Directory => FILETYPE_DIRECTORY,
        Kind::File => FILETYPE_REGULAR_FILE,
        Kind::Link | Kind::Other => FILETYPE_UNKNOWN,
    }
}

/// WASI's `filestat`. Access and change times are not kept apart from the modification time.
fn filestat(Node { device, stat }: &Node) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&u64::from(*device).to_le_bytes());
    bytes[8..16].copy_from_slice(&stat.ino.to_le_bytes());
    bytes[16] = kind_filetype(stat.kind);
    bytes[24..32].copy_from_slice(&u64::from(stat.links).to_le_bytes());
    bytes[32..40].copy_from_slice(&stat.len.to_le_bytes());
    for time in [40, 48, 56] {
        bytes[time..time + 8].copy_from_slice(&stat.modified_ns.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Stat;

    #[test]
    fn flags_that_are_not_honoured_are_refused() {
        assert_eq!([0, 1, 4, 5].map(|flags| append_flag(flags, true)), [Ok(false), Ok(true), Ok(false), Ok(true)]);
        for flags in [2, 3, 8, 16, 18, 32, 1 << 31] {
            assert_eq!(append_flag(flags, true), Err(Errno::INVAL), "{flags}");
        }
        assert_eq!(append_flag(FDFLAGS_NONBLOCK, false), Err(Errno::INVAL));
    }

    #[test]
    fn what_was_transferred_before_an_error_counts() {
        let transferred =
            |script: &[Result<(usize, u32)>]| transfer(script.len() as u32, |index, _| script[index as usize]);
        assert_eq!(transferred(&[Ok((4, 4)), Err(Errno::NOSPC)]), Ok(4));
        assert_eq!(transferred(&[Err(Errno::NOSPC), Ok((4, 4))]), Err(Errno::NOSPC));
        assert_eq!(transferred(&[Ok((4, 4)), Ok((1, 4)), Ok((4, 4))]), Ok(5));
    }

    #[test]
    fn filestat_is_laid_out_as_wasi_says() {
        let stat = Stat { ino: 7, kind: Kind::File, len: 0x0102_0304, links: 2, modified_ns: 9 };
        let bytes = filestat(&Node { device: 1, stat });
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!([0, 8, 16, 24, 32, 40, 48, 56].map(word), [1, 7, 4, 2, 0x0102_0304, 9, 9, 9]);
    }
}
