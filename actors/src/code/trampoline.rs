//! Finds a function again in another process that runs the same executable. The only module with `unsafe` code.
//!
//! A *trampoline* is a function from bytes to bytes, made by the compiler for one function `F`: it decodes the argument,
//! calls `F`, encodes the result. All trampolines have one type, also those of functions that take a shared value beside the
//! argument; the others leave it alone. What travels is the distance, in bytes, from a fixed function, the anchor, to the
//! trampoline; the other process adds that distance to the address of its own anchor.
//!
//! # Why this is sound
//!
//! **A distance becomes a function pointer** ([`resolve`]). The same executable file has the same code at the same
//! distances wherever it is loaded: relocation moves a segment as a whole. So a distance that [`offset_of`] measured is
//! the address of a function of type [`Entry`] in every process that runs the same file. Three things make that hold:
//! - `offset_of` answers only for code in the executable itself, as the kernel lists it in `/proc/self/maps`, never for
//!   code in a shared library, whose distance differs from process to process;
//! - `resolve` compares the hash of the executable in which the distance was measured with that of its own, so that both
//!   are the same file;
//! - `resolve` refuses what lies outside the executable's code, so that a damaged distance is an error and not a jump into
//!   the void.
//!
//! What remains is a distance that points into this executable's code but to no trampoline. It cannot come from
//! `offset_of`; a peer would have to forge it. A peer that may submit functions may run any code on an engine anyway, by
//! sending a program of its own (the role matrix keeps everybody else out), so a forged distance gains it nothing.
//!
//! **A value of `F` is made from nothing** ([`conjure`]). `F` has no size, which is asserted at compile time: it has no
//! bytes that could be wrong. A value of `F` existed, because [`plain`] and its like take one, so `F` is not
//! uninhabited. `F: Copy` permits to have any number of values once there was one, and no `Drop` runs; `F: Send` permits to
//! have them on another thread; `F: 'static` excludes types that stand for a borrow. Function items and closures without
//! captures need no more than that.
//!
//! One use is beyond what the compiler can check: a closure that captures a zero-sized `Copy` value whose *existence*
//! vouches for the state of one process ("the library is initialised") and on which other `unsafe` code relies. The
//! worker process has not made that state. Such witnesses belong inside the function, not in its captures.

use std::{
    fmt,
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Shared,
    call::{call, call_fallible},
};
use crate::task::{BundleHash, Cause};

/// A trampoline: decodes the argument, calls the function, appends the encoded result.
pub(super) type Entry = fn(&Shared, &[u8], &mut Vec<u8>) -> Result<(), Cause>;

/// The trampoline of a function that returns its result. Does not compile for a function with captures.
pub(super) fn plain<F, A, R>(_function: F) -> Entry
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: DeserializeOwned,
    R: Serialize + 'static,
{
    |_, argument, result| call(conjure::<F>(), argument, result)
}

/// The trampoline of a function that may return an error. Does not compile for a function with captures.
pub(super) fn fallible<F, A, R, E>(_function: F) -> Entry
where
    F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
    A: DeserializeOwned,
    R: Serialize + 'static,
    E: fmt::Display + 'static,
{
    |_, argument, result| call_fallible(conjure::<F>(), argument, result)
}

/// As [`plain`], for a function that also takes what the tasks of its job share.
pub(super) fn sharing<F, S, A, R>(_function: F) -> Entry
where
    F: Fn(&S, A) -> R + Copy + Send + 'static,
    S: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned,
    R: Serialize + 'static,
{
    |shared, argument, result| {
        let value = shared.get()?;
        call(|own| conjure::<F>()(value, own), argument, result)
    }
}

/// As [`fallible`], for a function that also takes what the tasks of its job share.
pub(super) fn sharing_fallible<F, S, A, R, E>(_function: F) -> Entry
where
    F: Fn(&S, A) -> Result<R, E> + Copy + Send + 'static,
    S: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned,
    R: Serialize + 'static,
    E: fmt::Display + 'static,
{
    |shared, argument, result| {
        let value = shared.get()?;
        call_fallible(|own| conjure::<F>()(value, own), argument, result)
    }
}

/// As [`sharing_fallible`], for a function that keeps what it gets for longer than its task.
pub(super) fn holding<F, S, A, R, E>(_function: F) -> Entry
where
    F: Fn(Arc<S>, A) -> Result<R, E> + Copy + Send + 'static,
    S: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned,
    R: Serialize + 'static,
    E: fmt::Display + 'static,
{
    |shared, argument, result| {
        let value = shared.hold()?;
        call_fallible(|own| conjure::<F>()(value, own), argument, result)
    }
}

/// Where a trampoline lies relative to the anchor, or `None` when it is not part of the executable itself.
pub(super) fn offset_of(entry: Entry) -> Option<i64> {
    let code = code_of_this_program()?;
    let address = entry as usize;
    // Both addresses lie within one file's code, so their distance fits.
    code.contains(&address).then(|| address.wrapping_sub(anchor_address()) as i64)
}

/// The trampoline at `offset` in the executable `bundle`, if that is the executable of this process, `own_bundle`, and
/// the offset lies within its code.
pub(super) fn resolve(bundle: BundleHash, offset: i64, own_bundle: BundleHash) -> Option<Entry> {
    let code = code_of_this_program()?;
    let offset = isize::try_from(offset).ok()?;
    let pointer = (anchor as fn() as *const ()).wrapping_byte_offset(offset);
    if bundle != own_bundle || !code.contains(&pointer.addr()) {
        return None;
    }
    // SAFETY: `pointer` is the address of a function of type `Entry`; the module's documentation says why.
    Some(unsafe { std::mem::transmute::<*const (), Entry>(pointer) })
}

/// A value of a type that has no size.
///
/// Private, and called only by trampolines, which only `plain` and its like make: so there was a value of `F` once.
fn conjure<F: Copy + Send + 'static>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "only fn items and closures that capture nothing travel; pass data as the argument, or to all tasks with map_with"
        );
    }
    // SAFETY: a read of no bytes through an aligned pointer; the module's documentation says why the value is valid.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// What distances are measured from. It does nothing; only its address matters.
#[inline(never)]
fn anchor() {}

fn anchor_address() -> usize {
    anchor as fn() as usize
}

/// The addresses of this program's code; `None` where the system does not tell, or where this crate is not part of the
/// executable but of a shared library.
fn code_of_this_program() -> Option<Range<usize>> {
    static CODE: OnceLock<Option<Range<usize>>> = OnceLock::new();
    CODE.get_or_init(|| {
        let maps = std::fs::read("/proc/self/maps").ok()?;
        let program = std::fs::read_link("/proc/self/exe").ok()?;
        code_range(&String::from_utf8_lossy(&maps), &program).filter(|code| code.contains(&anchor_address()))
    })
    .clone()
}

/// The addresses from the first to the last executable mapping of `program` in a text of the form of `/proc/self/maps`.
fn code_range(maps: &str, program: &Path) -> Option<Range<usize>> {
    let program = program.to_string_lossy();
    let mappings = maps.lines().filter_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let path = fields.nth(3)?.trim_start();
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        (permissions.contains('x') && path == program).then_some(range)
    });
    mappings.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{SharedFile, SharedValues, decode, encode};
    use crate::task::BlobHash;

    const HERE: BundleHash = BundleHash([1; 32]);

    fn double(x: u32) -> u32 {
        2 * x
    }

    fn parse(text: String) -> Result<i32, std::num::ParseIntError> {
        text.parse()
    }

    fn run<A: Serialize, R: DeserializeOwned>(entry: Entry, argument: A) -> Result<R, Cause> {
        // There and back, as a function travels.
        let entry = resolve(HERE, offset_of(entry).unwrap(), HERE).unwrap();
        let (mut bytes, mut result) = (Vec::new(), Vec::new());
        encode(&argument, &mut bytes).unwrap();
        entry(&SharedValues::default().of_run(None), &bytes, &mut result)?;
        Ok(decode(&result).unwrap())
    }

    #[test]
    fn functions_and_closures_are_found_again() {
        assert_eq!(run(plain(double), 21), Ok(42));
        assert_eq!(run(plain(|text: String| text.len()), "four"), Ok(4));
        assert_eq!(run(plain(|(a, b): (i8, i8)| a - b), (1, 2)), Ok(-1));
        assert_eq!(run(plain(u32::count_ones), 7), Ok(3));
        assert_eq!(run(fallible(parse), "-5"), Ok(-5));
        assert!(matches!(run::<_, i32>(fallible(parse), "x"), Err(Cause::ReturnedError { .. })));
    }

    #[test]
    fn functions_that_share_a_value_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        encode(&["no", "yes"], &mut bytes).unwrap();
        let (path, hash) = (dir.path().join("value"), BlobHash(blake3::hash(&bytes).into()));
        std::fs::write(&path, &bytes).unwrap();
        let file = SharedFile { hash, path, bytes: bytes.len() as u64 };
        let shared = SharedValues::default().of_run(Some(&file));
        let run = |entry: Entry, argument: usize| {
            let entry = resolve(HERE, offset_of(entry).unwrap(), HERE).unwrap();
            let (mut bytes, mut result) = (Vec::new(), Vec::new());
            encode(&argument, &mut bytes).unwrap();
            entry(&shared, &bytes, &mut result)?;
            Ok(decode::<String>(&result).unwrap())
        };
        let find = |words: &Vec<String>, at: usize| words.get(at).cloned().ok_or("there is none");
        assert_eq!(run(sharing(|words: &Vec<String>, at: usize| words[at].clone()), 1), Ok("yes".to_string()));
        assert_eq!(run(sharing_fallible(find), 0), Ok("no".to_string()));
        assert!(matches!(run(sharing_fallible(find), 2), Err(Cause::ReturnedError { .. })));
        assert!(matches!(
            run(sharing(|number: &u64, at: usize| (number, at).1.to_string()), 2),
            Err(Cause::WrongArgument { .. })
        ));
    }

    #[test]
    fn other_bundles_and_offsets_outside_the_code_are_refused() {
        let offset = offset_of(plain(double)).unwrap();
        assert!(resolve(HERE, offset, BundleHash([2; 32])).is_none());
        for offset in [i64::MIN, i64::MIN + 1, -(1 << 40), 1 << 40, i64::MAX] {
            assert!(resolve(HERE, offset, HERE).is_none(), "{offset}");
        }
    }

    #[test]
    fn the_code_is_that_of_the_program_alone() {
        let maps = "\
            1000-2000 r--p 00000000 fe:00 1                     /opt/a program\n\
            2000-3000 r-xp 00001000 fe:00 1                     /opt/a program\n\
            3000-4000 r-xp 00002000 fe:00 1                     /opt/a program\n\
            4000-5000 rw-p 00003000 fe:00 1                     /opt/a program\n\
            7000-8000 r-xp 00000000 fe:00 2                     /lib/libc.so\n\
            9000-a000 r-xp 00000000 00:00 0 \n\
            nonsense\n";
        assert_eq!(code_range(maps, Path::new("/opt/a program")), Some(0x2000..0x4000));
        assert_eq!(code_range(maps, Path::new("/opt/a")), None);
        assert_eq!(code_range("", Path::new("/opt/a")), None);
    }
}
