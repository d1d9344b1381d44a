//! Memory for long messages, kept for a moment when they are done with.
//!
//! Memory that is new to a process is cleared page by page, and where the machine is a virtual one its host may have to find it
//! first: both take longer than sending what comes to stand there. A node that passes on one long message after another uses the
//! same memory for all of them.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use memmap2::MmapMut;
use tokio::{runtime::Handle, time::sleep};

/// How long memory is kept that nobody uses. Longer than a client takes to send the next long task after the last one's result.
const KEPT: Duration = Duration::from_secs(3);

/// How much memory a node keeps that nobody uses, in bytes.
const KEPT_BYTES_MAX: usize = 512 << 20;

/// Lengths are rounded up to this, the large page of most machines, so that messages of nearly one length use one memory.
const GRAIN_BYTES: usize = 2 << 20;

thread_local! {
    /// What the node of this thread keeps.
    static SHELF: Arc<Shelf> = Arc::default();
}

/// The memory that a node keeps. The tasks own it that end its time, so that it ends with their runtime too.
#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<Weak<Idle>>>);

/// Memory that nobody uses, until it is taken or its time is over.
#[derive(Debug)]
struct Idle(Mutex<Option<MmapMut>>);

/// Memory of at least the length that was asked for. What stands in it is left over from others. Whoever is done with it, also on a
/// thread of the program, gives it back to the node that it is from.
#[derive(Debug)]
pub(crate) struct Room {
    memory: Option<MmapMut>,
    /// Where it is kept; nowhere if no node has asked for it.
    home: Option<(Arc<Shelf>, Handle)>,
}

impl Room {
    /// Memory of at least so many bytes, and little more. It is address space only, until something comes to stand there.
    ///
    /// # Errors
    /// When the system has no address space for it.
    pub(crate) fn of(bytes: usize) -> io::Result<Self> {
        let home = Handle::try_current().ok().map(|runtime| (SHELF.with(Arc::clone), runtime));
        let kept = home.as_ref().and_then(|(shelf, _)| shelf.take(bytes));
        let memory = match kept {
            Some(kept) => kept,
            None => fresh(bytes)?,
        };
        Ok(Self { memory: Some(memory), home })
    }
}

fn fresh(bytes: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes.next_multiple_of(GRAIN_BYTES))?;
    // Without large pages it is slower, and nothing else.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let (Some(memory), Some((shelf, runtime))) = (self.memory.take(), self.home.take()) {
            shelf.keep(memory, &runtime);
        }
    }
}

impl Shelf {
    fn take(&self, bytes: usize) -> Option<MmapMut> {
        let fits = |room: &MmapMut| (bytes..=bytes.saturating_add(bytes / 8).saturating_add(GRAIN_BYTES)).contains(&room.len());
        let mut keeping = lock(&self.0);
        let found = keeping.iter().filter_map(Weak::upgrade).find_map(|idle| lock(&idle.0).take_if(|room| fits(room)));
        keeping.retain(|idle| idle.upgrade().is_some_and(|idle| lock(&idle.0).is_some()));
        found
    }

    fn keep(&self, memory: MmapMut, runtime: &Handle) {
        let mut keeping = lock(&self.0);
        let bytes = |idle: Arc<Idle>| lock(&idle.0).as_ref().map_or(0, |memory| memory.len());
        let kept: usize = keeping.iter().filter_map(Weak::upgrade).map(bytes).sum();
        if kept + memory.len() <= KEPT_BYTES_MAX {
            let idle = Arc::new(Idle(Mutex::new(Some(memory))));
            keeping.push(Arc::downgrade(&idle));
            // A runtime that has ended drops it at once.
            runtime.spawn(async move {
                sleep(KEPT).await;
                drop(idle);
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(room: &Room) -> *const u8 {
        room.as_ptr()
    }

    #[test]
    fn memory_is_used_again_by_messages_of_about_its_length_until_the_runtime_ends() {
        let bytes = 101 << 20;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let inside = runtime.enter();
        let mut room = Room::of(bytes).unwrap();
        room[0] = 1;
        let first = place(&room);
        drop(room);
        assert_ne!(place(&Room::of(3 * bytes).unwrap()), first);
        let again = Room::of(bytes - 5).unwrap();
        assert_eq!((place(&again), again[0]), (first, 1));
        drop(again);
        drop(inside);
        drop(runtime);
        // New memory is zero, whatever its place.
        assert_eq!(Room::of(bytes).unwrap()[0], 0);
    }

    #[test]
    fn what_the_program_is_done_with_comes_back_to_the_node_and_is_gone_after_its_end() {
        let bytes = 103 << 20;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let inside = runtime.enter();
        let mut room = Room::of(bytes).unwrap();
        room[0] = 1;
        let first = place(&room);
        std::thread::spawn(|| drop(room)).join().unwrap();
        let mut again = Room::of(bytes).unwrap();
        assert_eq!((place(&again), again[0]), (first, 1));
        again[0] = 2;
        drop(inside);
        drop(runtime);
        drop(again);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        assert_eq!(Room::of(bytes).unwrap()[0], 0);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut room = Room::of(KEPT_BYTES_MAX + 1).unwrap();
        room[0] = 1;
        drop(room);
        assert_eq!(Room::of(KEPT_BYTES_MAX + 1).unwrap()[0], 0);
    }

    #[test]
    fn what_a_thread_without_a_node_is_done_with_is_gone() {
        let mut room = Room::of(201 << 20).unwrap();
        room[0] = 1;
        drop(room);
        assert_eq!(Room::of(201 << 20).unwrap()[0], 0);
    }
}
