//! Weights larger than memory: some stay in the mapped copy, the others are read from it, directly, into a few buffers of
//! our own, ahead of their use and by threads of their own.
//!
//! What is streamed is read for every token, in the same order. The page cache is of no use for that: it would throw out
//! each page just before it is needed again, and whatever else is mapped with it. So streamed *units* go past it. Of a
//! dense model the units are layers, and two buffers are enough: while one is multiplied with, the next is read. Of a
//! mixture of experts they are the experts, as many of which are held as there is memory, those that are used most.
//!
//! Resident layers stand evenly among the streamed ones: the reader never pauses while they are computed.

mod slots;

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gguf::{DIRECT_ALIGNMENT, DirectBuffer, DirectFile};
use kernels::Matrix;

use crate::error::Error;
use crate::plan::Stored;
use slots::{Answer, Order, Slots};

/// Pieces in which a unit is read side by side, and the least bytes of one: storage answers several requests at once faster
/// than one after another.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 4 << 20;

/// Layers that have room: while one is multiplied with, the next is read.
const LAYER_BUFFERS: usize = 2;

/// Threads that read experts side by side: one more than storage needs, so that none waits for a guess that is on its way.
/// Layers are read in pieces, and one after another: two on their way at once took from
/// the one that was waited for, which made a model of 1.5 billion weights a fifth slower.
const EXPERT_READERS: usize = 2;

/// What of a model stays in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resident {
    /// Everything: the mapped copy as a whole.
    All,
    /// So many layers. The others are read for every batch.
    Layers(usize),
    /// Everything but the experts, and of these so many, over all layers.
    Experts(usize),
}

/// How a model's weights are streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streaming {
    /// What stays.
    pub resident: Resident,
    /// Bytes of the buffers, anonymous memory.
    pub buffer_bytes: usize,
    /// Whether reads leave the page cache aside. Where the file system refuses that, pages are dropped after reading.
    pub is_direct: bool,
    /// Layers or experts that were computed with, and that were read for it, since this began.
    pub used: u64,
    /// See `used`; what is read ahead counts.
    pub read: u64,
}

/// The units that a model may stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Units {
    /// Where each lies in the copy: whole layers, or experts layer by layer.
    pub(crate) ranges: Vec<Range<usize>>,
    /// Experts in a layer; 0 if the units are layers.
    pub(crate) experts: usize,
    /// Bytes of the file before the copy begins, whole blocks.
    pub(crate) header: usize,
}

impl Units {
    /// The unit that an expert of a layer is.
    fn expert(&self, layer: usize, expert: usize) -> usize {
        layer * self.experts + expert
    }

    /// Bytes of a buffer that any of them fits in.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.ranges.iter().map(|range| aligned(range).len()).max().unwrap_or(0)
    }
}

/// Reads units and holds them.
pub(crate) struct Streamer {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

struct Shared {
    file: DirectFile,
    units: Units,
    /// The rank of each layer among those that stay: see [`ranks`].
    ranks: Vec<usize>,
    buffer_bytes: usize,
    state: Mutex<State>,
    /// Told to readers when there is something to read, and to who waits when something was read.
    due: Condvar,
    read: Condvar,
    /// Held by who asks for several units at once: two that each had half of them would wait for ever.
    several: Mutex<()>,
}

struct State {
    slots: Slots,
    resident: Resident,
    is_closing: bool,
}

impl Streamer {
    /// Streams from `file` what `resident` leaves out.
    ///
    /// # Errors
    /// [`Error::Resident`] for what this model cannot do, [`Error::OutOfMemory`] if a thread cannot be had.
    pub(crate) fn start(file: DirectFile, units: Units, resident: Resident) -> Result<Streamer, Error> {
        let count = units.ranges.len();
        let resident = match resident {
            Resident::Experts(experts) => Resident::Experts(experts.min(count)),
            other => other,
        };
        let buffer_bytes = units.buffer_bytes();
        let buffers = |count: usize| {
            let bytes = count.saturating_mul(buffer_bytes);
            DirectBuffer::several(count, buffer_bytes)
                .map_err(|_| Error::OutOfMemory { what: "buffers for weights", bytes })
        };
        let ranks = ranks(count);
        let (slots, readers) = match resident {
            Resident::Layers(layers) if units.experts == 0 && layers < count => {
                (Slots::in_turn(buffers(LAYER_BUFFERS)?, count, &streamed(&ranks, layers)), 1)
            }
            Resident::Experts(experts) if units.experts > 0 && experts > 0 => {
                (Slots::by_use(buffers(experts)?, count), EXPERT_READERS)
            }
            _ => return Err(Error::Resident { resident }),
        };
        let shared = Arc::new(Shared {
            file,
            buffer_bytes,
            ranks,
            units,
            state: Mutex::new(State { slots, resident, is_closing: false }),
            due: Condvar::new(),
            read: Condvar::new(),
            several: Mutex::new(()),
        });
        let mut streamer = Streamer { shared, readers: Vec::new() };
        for _ in 0..readers {
            let shared = Arc::clone(&streamer.shared);
            let reader = std::thread::Builder::new().name("weights".to_owned()).spawn(move || shared.serve());
            streamer.readers.push(
                reader.map_err(|_| Error::OutOfMemory { what: "a thread that reads weights", bytes: 0 })?,
            );
        }
        Ok(streamer)
    }

    /// Keeps another number of layers from now on. `false` where that asks for another streamer.
    pub(crate) fn keep_layers(&self, resident: Resident) -> bool {
        let shared = &self.shared;
        let count = shared.units.ranges.len();
        match resident {
            Resident::Layers(layers) if shared.units.experts == 0 && layers < count => {
                let mut state = shared.lock();
                state.resident = resident;
                state.slots.take_turns(&streamed(&shared.ranks, layers));
                shared.due.notify_one();
                true
            }
            _ => false,
        }
    }

    pub(crate) fn streaming(&self) -> Streaming {
        let state = self.shared.lock();
        Streaming {
            resident: state.resident,
            buffer_bytes: state.slots.len() * self.shared.buffer_bytes,
            is_direct: self.shared.file.is_direct(),
            used: state.slots.held,
            read: state.slots.read,
        }
    }

    /// Whether this layer is read as a whole.
    pub(crate) fn streams_layer(&self, layer: usize) -> bool {
        match self.shared.lock().resident {
            Resident::Layers(resident) => self.shared.ranks[layer] >= resident,
            Resident::Experts(_) | Resident::All => false,
        }
    }

    /// Whether experts are held one by one.
    pub(crate) fn streams_experts(&self) -> bool {
        self.shared.units.experts > 0
    }

    /// Checks that the file is still the one that was opened.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        Ok(self.shared.file.check()?)
    }

    /// A layer's weights, once they are read.
    ///
    /// # Errors
    /// What reading says.
    pub(crate) fn layer(&self, layer: usize) -> Result<Loan, Error> {
        self.shared.wait_for(layer)
    }

    /// Has some experts of a layer read without waiting for them, as far as there is room for all at once.
    pub(crate) fn want_experts(&self, layer: usize, experts: impl Iterator<Item = usize>) {
        let shared = &self.shared;
        let mut state = shared.lock();
        let most = state.slots.len() / 2;
        for expert in experts.take(most) {
            state.slots.want(shared.units.expert(layer, expert));
        }
        shared.tell_readers(&state);
    }

    /// The weights of one expert, once they are read.
    ///
    /// # Errors
    /// What reading says.
    pub(crate) fn expert(&self, layer: usize, expert: usize) -> Result<Loan, Error> {
        self.shared.wait_for(self.shared.units.expert(layer, expert))
    }

    /// The weights of several experts of a layer, all of which have room at once, as they come.
    pub(crate) fn experts(&self, layer: usize, experts: impl Iterator<Item = usize>) -> Coming<'_> {
        let shared = &self.shared;
        let alone = shared.several.lock().unwrap_or_else(PoisonError::into_inner);
        let left: Vec<_> = experts.map(|expert| shared.units.expert(layer, expert)).enumerate().collect();
        let mut state = shared.lock();
        left.iter().for_each(|&(_, unit)| state.slots.want(unit));
        shared.tell_readers(&state);
        Coming { shared, _alone: alone, left }
    }

    /// Has experts of a layer that may be used soon, the likeliest first, read while nothing else is to be read. What was guessed
    /// before is taken back.
    pub(crate) fn guess_experts(&self, layer: usize, experts: impl Iterator<Item = usize>) {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.slots.guess(experts.map(|expert| shared.units.expert(layer, expert)));
        shared.tell_readers(&state);
    }
}

/// Experts that somebody is about to multiply with, as they are read.
pub(crate) struct Coming<'a> {
    shared: &'a Arc<Shared>,
    _alone: MutexGuard<'a, ()>,
    /// The place of each among those that were asked for, and its unit: those that were not lent yet.
    left: Vec<(usize, usize)>,
}

impl Coming<'_> {
    /// Those that are there by now, up to `most`, at least one unless all were lent, with their places in ascending order.
    ///
    /// # Errors
    /// What reading says.
    pub(crate) fn take(&mut self, most: usize) -> Result<Vec<(usize, Loan)>, Error> {
        let shared = self.shared;
        let mut state = shared.lock();
        loop {
            let (mut loans, mut failure) = (Vec::new(), None);
            self.left.retain(|&(place, unit)| {
                if loans.len() == most || failure.is_some() {
                    return true;
                }
                match shared.ask(&mut state, unit) {
                    Some(Ok(loan)) => loans.push((place, loan)),
                    Some(Err(error)) => failure = Some(error),
                    None => return true,
                }
                false
            });
            match failure {
                Some(error) => {
                    drop(state);
                    return Err(error);
                }
                None if loans.is_empty() && !self.left.is_empty() => {
                    state = shared.read.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                None => return Ok(loans),
            }
        }
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.due.notify_all();
        for reader in self.readers.drain(..) {
            // One that panicked has told so.
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a reader where there is something to read. It wakes the next.
    fn tell_readers(&self, state: &State) {
        if state.slots.is_due() {
            self.due.notify_one();
        }
    }

    /// A unit's weights or why there are none; `None` while it is on its way.
    fn ask(self: &Arc<Self>, state: &mut State, unit: usize) -> Option<Result<Loan, Error>> {
        let answer = state.slots.ask(unit);
        // There may be room to read ahead now.
        self.tell_readers(state);
        match answer {
            Answer::Ready(slot, buffer) => {
                let first = aligned(&self.units.ranges[unit]).start;
                Some(Ok(Loan { shared: Arc::clone(self), slot, buffer: Some(buffer), first }))
            }
            Answer::Failed(error) => {
                // Nothing is wanted any more, so who waits has to ask again.
                self.read.notify_all();
                Some(Err(error))
            }
            Answer::Wait => None,
        }
    }

    fn wait_for(self: &Arc<Self>, unit: usize) -> Result<Loan, Error> {
        let mut state = self.lock();
        loop {
            match self.ask(&mut state, unit) {
                Some(outcome) => return outcome,
                None => state = self.read.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// What a reader does until the end.
    fn serve(&self) {
        let mut state = self.lock();
        while !state.is_closing {
            let Some(Order { slot, unit, buffer }) = state.slots.next_order() else {
                state = self.due.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            self.tell_readers(&state);
            drop(state);
            let outcome = self.read(unit, buffer);
            state = self.lock();
            state.slots.finish(slot, unit, outcome);
            self.read.notify_all();
        }
    }

    fn read(&self, unit: usize, mut buffer: DirectBuffer) -> Result<DirectBuffer, (DirectBuffer, Error)> {
        let range = aligned(&self.units.ranges[unit]);
        match self.file.check().and_then(|()| {
            read_in_pieces(&self.file, self.units.header + range.start, &mut buffer[..range.len()])
        }) {
            Ok(()) => Ok(buffer),
            Err(error) => Err((buffer, error.into())),
        }
    }
}

fn read_in_pieces(file: &DirectFile, start: usize, out: &mut [u8]) -> Result<(), gguf::Error> {
    let piece = out.len().div_ceil(PIECES).max(PIECE_BYTES).next_multiple_of(DIRECT_ALIGNMENT);
    let mut pieces = out.chunks_mut(piece).enumerate();
    let read = |(index, out): (usize, &mut [u8])| file.read_at((start + index * piece) as u64, out);
    let Some(first) = pieces.next() else { return Ok(()) };
    std::thread::scope(|scope| {
        let others: Vec<_> = pieces.map(|piece| scope.spawn(move || read(piece))).collect();
        let mut outcome = read(first);
        for other in others {
            outcome = outcome.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        outcome
    })
}

/// The blocks that a range touches.
fn aligned(range: &Range<usize>) -> Range<usize> {
    range.start / DIRECT_ALIGNMENT * DIRECT_ALIGNMENT..range.end.next_multiple_of(DIRECT_ALIGNMENT)
}

/// The order in which layers stay: whatever their number they stand evenly among the others, and those that stay where there is
/// less room do so where there is more. A limit that moves has only the difference read. Bits reversed (van der Corput, 1935).
fn ranks(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_unstable_by_key(|layer| layer.reverse_bits());
    let mut ranks = vec![0; count];
    order.into_iter().enumerate().for_each(|(rank, layer)| ranks[layer] = rank);
    ranks
}

/// The layers that do not stay where `resident` do.
fn streamed(ranks: &[usize], resident: usize) -> Vec<usize> {
    (0..ranks.len()).filter(|&layer| ranks[layer] >= resident).collect()
}

/// A unit's weights, which stay where they are until this is dropped.
pub(crate) struct Loan {
    shared: Arc<Shared>,
    slot: usize,
    /// `None` only while it is dropped.
    buffer: Option<Arc<DirectBuffer>>,
    /// Where in the copy the buffer's first byte lies.
    first: usize,
}

impl Loan {
    /// One of the unit's matrices.
    pub(crate) fn matrix(&self, stored: &Stored) -> Matrix<'_> {
        stored.matrix(self.buffer.as_deref().map_or(&[], |buffer| &buffer[..]), self.first)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        // Before the slot counts as free, so that its reader finds nobody else with the buffer.
        self.buffer = None;
        state.slots.release(self.slot);
        self.shared.tell_readers(&state);
    }
}

/// Weights that may be multiplied with as long as this lives.
pub(crate) enum Held<'a> {
    /// The whole copy.
    Mapped(&'a [u8]),
    /// One unit.
    Lent(Loan),
}

impl Held<'_> {
    /// One of the matrices.
    pub(crate) fn matrix(&self, stored: &Stored) -> Matrix<'_> {
        match self {
            Held::Mapped(copy) => stored.matrix(copy, 0),
            Held::Lent(loan) => loan.matrix(stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Who waits for another unit while one cannot be read has it read all the same. No reader runs: the test is one.
    #[test]
    fn a_unit_that_cannot_be_read_leaves_nobody_waiting_for_ever() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ranges = [0..DIRECT_ALIGNMENT, DIRECT_ALIGNMENT..2 * DIRECT_ALIGNMENT].to_vec();
        let slots = Slots::by_use(DirectBuffer::several(2, DIRECT_ALIGNMENT).unwrap(), 2);
        let shared = Arc::new(Shared {
            file: DirectFile::open(file.path()).unwrap(),
            units: Units { ranges, experts: 2, header: 0 },
            ranks: Vec::new(),
            buffer_bytes: DIRECT_ALIGNMENT,
            state: Mutex::new(State { slots, resident: Resident::Experts(2), is_closing: false }),
            due: Condvar::new(),
            read: Condvar::new(),
            several: Mutex::new(()),
        });
        shared.lock().slots.want(0);
        let Order { slot, buffer, .. } = shared.lock().slots.next_order().unwrap();
        let other = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.wait_for(1).is_ok())
        };
        let until = Instant::now() + Duration::from_secs(20);
        let wait_until_due = || {
            while !shared.lock().slots.is_due() {
                assert!(Instant::now() < until, "nobody asks any more");
                std::thread::yield_now();
            }
        };
        wait_until_due();
        shared.lock().slots.finish(slot, 0, Err((buffer, Error::NoCopy)));
        assert!(matches!(shared.wait_for(0), Err(Error::NoCopy)));
        wait_until_due();
        let mut state = shared.lock();
        let Order { slot, unit, buffer } = state.slots.next_order().unwrap();
        state.slots.finish(slot, unit, Ok(buffer));
        drop(state);
        shared.read.notify_all();
        assert!(unit == 1 && other.join().unwrap());
    }

    #[test]
    fn layers_that_stay_do_so_with_more_room_and_stand_evenly() {
        assert_eq!(ranks(6), [0, 3, 2, 5, 1, 4]);
        for count in [1, 7, 28, 36, 165] {
            let ranks = ranks(count);
            for resident in 0..=count {
                let streamed = streamed(&ranks, resident);
                assert_eq!(streamed.len(), count - resident);
                // Nowhere more than twice as many in a row as if they were dealt out exactly.
                let longest = streamed.chunk_by(|a, b| a + 1 == *b).map(<[usize]>::len).max().unwrap_or(0);
                assert!(
                    longest <= 2 * count.div_ceil(resident.max(1)),
                    "{resident} of {count}: {streamed:?}"
                );
            }
        }
    }
}
