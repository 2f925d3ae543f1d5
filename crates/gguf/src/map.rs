//! A file mapped for reading.
//!
//! Where a page of a map cannot be read, since its device fails or the file was cut short, the system sends the program that
//! touches it a signal that ends it. A map that is [guarded](Map::guard) goes on with zeros in that place and counts it, so that
//! whoever computes with it can give up what was computed, and nothing else, and [try again](Map::restore).

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::Mmap;

/// The way in which a map will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// From some place on, onwards.
    Onwards,
    /// A little here and there.
    Scattered,
}

/// A whole file, mapped for reading.
#[derive(Debug)]
pub struct Map {
    // Before the map, so that it is given up before the map's place in memory can be somebody else's.
    guard: Option<guard::Guard>,
    map: Mmap,
    file: File,
    /// Losses that were made up for.
    restored: AtomicUsize,
}

impl Map {
    /// Maps `file`. Its bytes may change whenever another program writes to it: what is read is to be numbers, or checked
    /// as it is copied.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Map> {
        // SAFETY: the map is read-only and lives as long as this. Rust asks that nobody changes the bytes meanwhile; no
        // program can enforce that, and the line above hands the duty on.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Map { guard: None, map, file: file.try_clone()?, restored: AtomicUsize::new(0) })
    }

    /// From now on pages that cannot be read are zeros, and [`Map::losses`] counts them. For this the process gets a handler of the signal `SIGBUS`, which leaves everybody else's to the handler there was. Nothing is
    /// changed on systems that are not Unix, and where more maps are guarded than any program should have.
    pub fn guard(&mut self) {
        self.guard = self.guard.take().or_else(|| guard::Guard::of(&self.map));
    }

    /// Pages that were touched and could not be read since the map is guarded: what was computed while it grew is worth
    /// nothing.
    pub fn losses(&self) -> usize {
        self.guard.as_ref().map_or(0, guard::Guard::losses)
    }

    /// Whether zeros stand in the place of pages.
    pub fn is_damaged(&self) -> bool {
        self.losses() > self.restored.load(Ordering::Acquire)
    }

    /// Puts the file back in the place of zeros, so that it is read again: it may be whole by now. If not, there will be
    /// losses again.
    pub fn restore(&self) {
        let losses = self.losses();
        if self.is_damaged() && guard::map_again(&self.map, &self.file) {
            self.restored.fetch_max(losses, Ordering::AcqRel);
        }
    }

    /// Gives the pages back to the system: until they are next read they do not count as this process'. Nothing is done on
    /// systems that are not Unix.
    pub fn release(&self) {
        // SAFETY: the map is read-only and of a file, so what is dropped comes back with the file's bytes, and zeros in the
        // place of what cannot be read as zeros.
        #[cfg(unix)]
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// Tells the system in which way the map will be read, as is worth saying on Unix.
    pub fn expect(&self, reading: Reading) {
        #[cfg(unix)]
        self.advise(match reading {
            Reading::Onwards => memmap2::Advice::Normal,
            Reading::Scattered => memmap2::Advice::Random,
        });
        #[cfg(not(unix))]
        let _ = reading;
    }

    /// Has these bytes read without waiting for them, as far as they are the file's.
    pub fn fetch(&self, range: Range<usize>) {
        #[cfg(unix)]
        if range.start < range.end && range.end <= self.len() {
            // Refused where memory is short: then they are read when they are touched.
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Tells the system how the map will be read; a system that does not listen reads correctly all the same.
    #[cfg(unix)]
    pub fn advise(&self, advice: memmap2::Advice) {
        let _ = self.map.advise(advice);
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(unix)]
mod guard {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use libc::{c_int, c_void, siginfo_t};

    /// Maps that are guarded at a time.
    const MOST: usize = 256;

    /// A place is free, or being taken or given up; any other start is an address.
    const FREE: usize = 0;
    const CHANGING: usize = 1;

    /// A guarded map's place in memory. A signal handler may not wait for anybody, so all of it is atomic.
    struct Range {
        start: AtomicUsize,
        end: AtomicUsize,
        losses: AtomicUsize,
    }

    static RANGES: [Range; MOST] = [const {
        Range { start: AtomicUsize::new(FREE), end: AtomicUsize::new(0), losses: AtomicUsize::new(0) }
    }; MOST];

    /// What handled the signal before, and the bytes of a page.
    static BEFORE: OnceLock<Option<(libc::sigaction, usize)>> = OnceLock::new();

    #[derive(Debug)]
    pub(super) struct Guard(usize);

    impl Guard {
        pub(super) fn of(bytes: &[u8]) -> Option<Guard> {
            BEFORE.get_or_init(install).as_ref()?;
            let take = |range: &Range| {
                range.start.compare_exchange(FREE, CHANGING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            let place = RANGES.iter().position(take)?;
            let range = &RANGES[place];
            range.end.store(bytes.as_ptr_range().end as usize, Ordering::Relaxed);
            range.losses.store(0, Ordering::Relaxed);
            range.start.store(bytes.as_ptr() as usize, Ordering::Release);
            Some(Guard(place))
        }

        pub(super) fn losses(&self) -> usize {
            RANGES[self.0].losses.load(Ordering::Acquire)
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            RANGES[self.0].start.store(FREE, Ordering::Release);
        }
    }

    /// Maps the file in the place of `bytes`, which are a map of it.
    pub(super) fn map_again(bytes: &[u8], file: &File) -> bool {
        // SAFETY: the place is a map's own, which is only read, and holds the same file before and after.
        let put = unsafe {
            libc::mmap(
                bytes.as_ptr().cast_mut().cast(),
                bytes.len(),
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        put != libc::MAP_FAILED
    }

    fn install() -> Option<(libc::sigaction, usize)> {
        // SAFETY: both structures are plain data, for which zeros are a value; the handler does only what a handler may.
        unsafe {
            let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).ok()?;
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_bus_error as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut before: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) == 0).then_some((before, page))
        }
    }

    /// Puts a page of zeros where one of a guarded map could not be read, and goes on; the rest is not ours.
    extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // Until the handler there was before is known, nothing is guarded yet.
        let Some(Some((before, page))) = BEFORE.get() else { return };
        // SAFETY: the system hands over a description of the signal, of which this one has an address.
        let address = unsafe { (*info).si_addr() } as usize;
        let holds = |range: &&Range| {
            let start = range.start.load(Ordering::Acquire);
            start > CHANGING && start <= address && address < range.end.load(Ordering::Relaxed)
        };
        if let Some(range) = RANGES.iter().find(holds) {
            range.losses.fetch_add(1, Ordering::AcqRel);
            // SAFETY: the page lies in a map that is ours and read-only, and whose owner is reading it just now.
            let put = unsafe {
                libc::mmap(
                    (address / page * page) as *mut c_void,
                    *page,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            if put != libc::MAP_FAILED {
                return;
            }
        }
        // SAFETY: what the system said was the handler before, called as its flags say; or, back with the system's own, the
        // instruction fails again and ends the program.
        unsafe {
            match before.sa_sigaction {
                libc::SIG_DFL | libc::SIG_IGN => {
                    libc::signal(signal, libc::SIG_DFL);
                }
                handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
                    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                        std::mem::transmute(handler);
                    handler(signal, info, context);
                }
                handler => {
                    let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
                    handler(signal);
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod guard {
    #[derive(Debug)]
    pub(super) struct Guard;

    impl Guard {
        pub(super) fn of(_bytes: &[u8]) -> Option<Guard> {
            None
        }

        pub(super) fn losses(&self) -> usize {
            0
        }
    }

    pub(super) fn map_again(_bytes: &[u8], _file: &std::fs::File) -> bool {
        false
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_zeros_is_counted_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        let guarded = |path: &std::path::Path| {
            let mut map = Map::of(&File::open(path).unwrap()).unwrap();
            map.guard();
            map
        };
        let other = guarded(&std::env::current_exe().unwrap());
        const BYTES: usize = 3 << 16;
        // Places are given back: there are fewer of them than turns.
        for _ in 0..300 {
            std::fs::write(&path, [7; BYTES]).unwrap();
            let map = guarded(&path);
            assert!(map.iter().all(|&byte| byte == 7) && map.losses() == 0);
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(1 << 16).unwrap();
            assert_eq!((map[1 << 15], map.losses()), (7, 0), "what is there is read as before");
            assert_eq!([map[1 << 16], map[BYTES - 1]], [0, 0]);
            assert!(map.losses() >= 2 && map.is_damaged() && other.losses() == 0);
            map.restore();
            let losses = map.losses();
            assert!(!map.is_damaged());
            assert_eq!(map[1 << 16], 0);
            assert!(map.losses() > losses && map.is_damaged(), "it is not whole yet");
            std::fs::write(&path, [8; BYTES]).unwrap();
            map.restore();
            assert!(map.iter().all(|&byte| byte == 8) && !map.is_damaged());
        }
    }
}
