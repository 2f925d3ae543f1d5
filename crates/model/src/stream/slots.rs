//! Which unit of weights is in which buffer, and which is read next: decisions only, no file and no thread.
//!
//! Layers come round in order, so those after the one at hand are read ahead. Experts come as the text wants them, so those
//! that were used most stay, and those that somebody guesses are read ahead while nothing else is to be read.

use std::collections::VecDeque;
use std::sync::Arc;

use gguf::DirectBuffer;

use crate::error::Error;

/// A unit's use counts half as much after so many uses of any unit for each slot: long enough to tell the frequent ones, short
/// enough to follow a text that turns to another matter.
const HALF_LIFE: usize = 32;

/// What a slot holds.
#[derive(Debug)]
enum Content {
    Nothing,
    /// A reader has its buffer.
    Reading,
    Ready(usize, Arc<DirectBuffer>),
    /// The unit could not be read.
    Failed(usize, Error),
}

#[derive(Debug)]
struct Slot {
    content: Content,
    /// Who multiplies with it now.
    holders: usize,
    /// The buffer while no unit is in it.
    spare: Option<DirectBuffer>,
}

/// What somebody who asks for a unit gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is in this slot, which stays as it is until [`Slots::release`].
    Ready(usize, Arc<DirectBuffer>),
    /// It is on its way.
    Wait,
    Failed(Error),
}

/// A unit to be read, and where to.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) slot: usize,
    pub(super) unit: usize,
    pub(super) buffer: DirectBuffer,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// The slot that each unit is in, on its way to, or failed to get into.
    places: Vec<Option<usize>>,
    /// Units that somebody is about to use, in the order in which they were asked for; they stay until they were used.
    wanted: VecDeque<usize>,
    /// The unit that follows each in turn, where units come in turn.
    follows: Option<Vec<usize>>,
    /// Units that may be used soon, the likeliest first, where units come as they come.
    guessed: Vec<usize>,
    /// The unit that was asked for last.
    last: usize,
    /// How often each was used lately.
    uses: Vec<u32>,
    used: usize,
    /// Slots that somebody holds, and those that are being read into.
    busy: usize,
    reading: usize,
    /// Units that were held, and that were read, since the beginning.
    pub(super) held: u64,
    pub(super) read: u64,
}

impl Slots {
    /// A slot with each of these buffers for so many units, which come as they come.
    pub(super) fn by_use(buffers: Vec<DirectBuffer>, units: usize) -> Slots {
        let slot = |buffer| Slot { content: Content::Nothing, holders: 0, spare: Some(buffer) };
        Slots {
            slots: buffers.into_iter().map(slot).collect(),
            places: vec![None; units],
            wanted: VecDeque::new(),
            follows: None,
            guessed: Vec::new(),
            last: 0,
            uses: vec![0; units],
            used: 0,
            busy: 0,
            reading: 0,
            held: 0,
            read: 0,
        }
    }

    /// The same for `streamed` units of `units`, which come in turn.
    pub(super) fn in_turn(buffers: Vec<DirectBuffer>, units: usize, streamed: &[usize]) -> Slots {
        let mut slots = Slots::by_use(buffers, units);
        slots.take_turns(streamed);
        slots
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// From now on these units come in turn, in ascending order.
    pub(super) fn take_turns(&mut self, streamed: &[usize]) {
        let first = streamed.first().copied().unwrap_or(0);
        let after = |unit: usize| streamed.iter().copied().find(|&other| other > unit).unwrap_or(first);
        self.follows = Some((0..self.uses.len()).map(after).collect());
        // What is first is expected before anybody has asked.
        self.last = self.uses.len() - 1;
    }

    /// Somebody wants to multiply with `unit`, now or, while the answer is to wait, as soon as it is there.
    pub(super) fn ask(&mut self, unit: usize) -> Answer {
        self.last = unit;
        let Some(at) = self.places[unit] else {
            self.want(unit);
            return Answer::Wait;
        };
        let slot = &mut self.slots[at];
        match std::mem::replace(&mut slot.content, Content::Nothing) {
            Content::Ready(_, buffer) => {
                slot.content = Content::Ready(unit, Arc::clone(&buffer));
                slot.holders += 1;
                self.busy += usize::from(slot.holders == 1);
                self.held += 1;
                self.wanted.retain(|&other| other != unit);
                self.count(unit);
                Answer::Ready(at, buffer)
            }
            // Whoever asks again makes it be read again: the device may be back.
            Content::Failed(_, error) => {
                self.places[unit] = None;
                // What was to be used after it is not wanted any more. Who still waits asks again.
                self.wanted.clear();
                Answer::Failed(error)
            }
            content => {
                slot.content = content;
                // Or else the reader would have it make room for the next before who waits has woken up.
                self.want(unit);
                Answer::Wait
            }
        }
    }

    /// `unit` is about to be used: it is read without anybody who waits for it, and stays until then.
    pub(super) fn want(&mut self, unit: usize) {
        if !self.wanted.contains(&unit) {
            self.wanted.push_back(unit);
        }
    }

    /// These units, the likeliest first, may be used soon, instead of those that were guessed before.
    pub(super) fn guess(&mut self, units: impl Iterator<Item = usize>) {
        self.guessed.clear();
        self.guessed.extend(units);
    }

    /// Whoever held `slot` is done with it.
    pub(super) fn release(&mut self, slot: usize) {
        let holders = &mut self.slots[slot].holders;
        *holders -= 1;
        self.busy -= usize::from(*holders == 0);
    }

    /// Whether a reader has something to do.
    pub(super) fn is_due(&self) -> bool {
        self.due(&self.expected()).is_some()
    }

    /// The unit to be read next. What is only expected comes when nothing else is on its way: somebody waits for that.
    fn due(&self, expected: &[usize]) -> Option<usize> {
        let expected = if self.reading == 0 { expected } else { &[] };
        self.wanted.iter().chain(expected).copied().find(|&unit| self.places[unit].is_none())
    }

    /// What a reader does next, if there is anything.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        let expected = self.expected();
        let unit = self.due(&expected)?;
        let slot = self.victim(&expected)?;
        self.reading += 1;
        self.read += 1;
        let Slot { content, spare, .. } = &mut self.slots[slot];
        let before = std::mem::replace(content, Content::Reading);
        if let Content::Ready(gone, _) | Content::Failed(gone, _) = &before {
            self.places[*gone] = None;
        }
        self.places[unit] = Some(slot);
        let buffer = match before {
            // Nobody holds it, so nobody else has the buffer, and there is one.
            Content::Ready(_, buffer) => Arc::into_inner(buffer),
            _ => spare.take(),
        };
        Some(Order { slot, unit, buffer: buffer? })
    }

    /// The unit of an order was read, or was not.
    pub(super) fn finish(
        &mut self,
        slot: usize,
        unit: usize,
        outcome: Result<DirectBuffer, (DirectBuffer, Error)>,
    ) {
        self.reading -= 1;
        let slot = &mut self.slots[slot];
        slot.content = match outcome {
            Ok(buffer) => Content::Ready(unit, Arc::new(buffer)),
            Err((buffer, error)) => {
                slot.spare = Some(buffer);
                Content::Failed(unit, error)
            }
        };
    }

    /// What comes next in turn or was guessed, as much of it as there are slots that nobody holds or waits for.
    fn expected(&self) -> Vec<usize> {
        let free = (self.slots.len() - self.busy).saturating_sub(self.wanted.len());
        match &self.follows {
            Some(follows) => {
                let next = |&unit: &usize| Some(follows[unit]);
                std::iter::successors(Some(follows[self.last]), next).take(free).collect()
            }
            None => self.guessed.iter().copied().take(free).collect(),
        }
    }

    /// The slot whose unit is missed least: nobody holds or wants it.
    fn victim(&self, expected: &[usize]) -> Option<usize> {
        let worth = |slot: &Slot| match &slot.content {
            _ if slot.holders > 0 => None,
            Content::Nothing => Some(0),
            Content::Failed(unit, _) if !self.wanted.contains(unit) => Some(0),
            Content::Ready(unit, _) if !expected.contains(unit) && !self.wanted.contains(unit) => {
                Some(1 + self.uses[*unit])
            }
            _ => None,
        };
        let worths = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((worth(slot)?, at)));
        worths.min().map(|(_, at)| at)
    }

    fn count(&mut self, unit: usize) {
        self.uses[unit] += 2;
        self.used += 1;
        if self.used >= HALF_LIFE * self.slots.len() {
            self.used = 0;
            self.uses.iter_mut().for_each(|uses| *uses /= 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(count: usize) -> Vec<DirectBuffer> {
        DirectBuffer::several(count, gguf::DIRECT_ALIGNMENT).unwrap()
    }

    /// Reads whatever is to be read. Returns the units in order.
    fn read_all(slots: &mut Slots) -> Vec<usize> {
        let mut read = Vec::new();
        while let Some(Order { slot, unit, buffer }) = slots.next_order() {
            slots.finish(slot, unit, Ok(buffer));
            read.push(unit);
        }
        read
    }

    /// Asks for a unit that must be there.
    fn take(slots: &mut Slots, unit: usize) -> usize {
        match slots.ask(unit) {
            Answer::Ready(slot, _) => slot,
            other => panic!("{unit}: {other:?}"),
        }
    }

    #[test]
    fn layers_are_read_ahead_in_turn_and_round() {
        let mut slots = Slots::in_turn(buffers(2), 6, &[1, 3, 5]);
        assert_eq!(read_all(&mut slots), [1, 3]);
        let held = take(&mut slots, 1);
        // One slot is held, the other has what comes next.
        assert!(read_all(&mut slots).is_empty());
        slots.release(held);
        assert_eq!(read_all(&mut slots), [5]);
        let held = take(&mut slots, 3);
        slots.release(held);
        assert_eq!(read_all(&mut slots), [1]);
        // Another pass begins in the middle.
        let held = take(&mut slots, 5);
        slots.release(held);
        assert_eq!(read_all(&mut slots), [3]);
        assert!(matches!(slots.ask(5), Answer::Wait));
        assert_eq!(read_all(&mut slots), [5]);
    }

    #[test]
    fn what_is_wanted_comes_before_what_is_expected() {
        let mut slots = Slots::in_turn(buffers(2), 6, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(read_all(&mut slots), [0, 1]);
        assert!(matches!(slots.ask(4), Answer::Wait));
        assert_eq!(read_all(&mut slots), [4, 5]);
        let first = take(&mut slots, 4);
        // A second pass: the unit that is held stays.
        assert!(matches!(slots.ask(1), Answer::Wait));
        assert_eq!(read_all(&mut slots), [1]);
        let second = take(&mut slots, 1);
        assert!(matches!(slots.ask(2), Answer::Wait));
        assert!(read_all(&mut slots).is_empty());
        slots.release(first);
        slots.release(second);
        assert_eq!(read_all(&mut slots), [2, 3]);
    }

    #[test]
    fn what_somebody_waits_for_stays_until_it_was_used() {
        let mut slots = Slots::in_turn(buffers(2), 4, &[0, 1, 2, 3]);
        let mut order = slots.next_order().expect("the first is expected");
        for turn in 0..40 {
            // It is asked for while it is on its way, and the reader goes on before the one who waits wakes up.
            let Order { slot, unit, buffer } = order;
            assert_eq!(unit, turn % 4);
            assert!(matches!(slots.ask(unit), Answer::Wait));
            slots.finish(slot, unit, Ok(buffer));
            order = slots.next_order().expect("the other slot is free");
            let slot = take(&mut slots, unit);
            slots.release(slot);
        }
    }

    #[test]
    fn experts_that_are_used_most_stay() {
        let mut slots = Slots::by_use(buffers(3), 10);
        let mut use_one = |unit: usize| {
            let was_there = match slots.ask(unit) {
                Answer::Ready(slot, _) => {
                    slots.release(slot);
                    return true;
                }
                Answer::Wait => read_all(&mut slots).is_empty(),
                Answer::Failed(error) => panic!("{error}"),
            };
            let slot = take(&mut slots, unit);
            slots.release(slot);
            was_there
        };
        for _ in 0..3 {
            use_one(1);
            use_one(2);
        }
        for other in 3..9 {
            assert!(!use_one(other));
        }
        assert!(use_one(1) && use_one(2));
        // A text that turns to another matter: the old ones go in time.
        for _ in 0..60 {
            use_one(8);
            use_one(9);
            use_one(7);
        }
        assert!(use_one(7) && use_one(8) && use_one(9));
        assert!(!use_one(1));
    }

    #[test]
    fn guesses_are_read_when_nothing_else_is_and_go_first_if_they_were_wrong() {
        let mut slots = Slots::by_use(buffers(3), 10);
        slots.want(0);
        slots.guess([1, 2, 3].into_iter());
        let Some(Order { slot, unit: 0, buffer }) = slots.next_order() else { panic!("0 is wanted") };
        assert!(!slots.is_due() && slots.next_order().is_none());
        slots.finish(slot, 0, Ok(buffer));
        // Two have room beside the one that is wanted.
        assert_eq!(read_all(&mut slots), [1, 2]);
        for unit in [0, 1] {
            let slot = take(&mut slots, unit);
            slots.release(slot);
        }
        slots.guess([1].into_iter());
        slots.want(5);
        assert_eq!(read_all(&mut slots), [5]);
        for unit in [0, 1, 5] {
            let slot = take(&mut slots, unit);
            slots.release(slot);
        }
    }

    #[test]
    fn what_is_wanted_and_there_stays_while_others_are_read() {
        let mut slots = Slots::by_use(buffers(2), 4);
        for unit in [0, 1, 1] {
            slots.want(unit);
            read_all(&mut slots);
            let slot = take(&mut slots, unit);
            slots.release(slot);
        }
        // Without that it would be the one to go, as it was used least.
        slots.want(0);
        slots.want(2);
        assert_eq!(read_all(&mut slots), [2]);
        take(&mut slots, 0);
        take(&mut slots, 2);
    }

    #[test]
    fn several_at_once_fill_all_slots_and_what_fails_can_be_asked_again() {
        let mut slots = Slots::by_use(buffers(2), 4);
        slots.want(0);
        slots.want(1);
        slots.want(2);
        assert_eq!(read_all(&mut slots), [0, 1]);
        // Both wait for their user.
        let (first, second) = (take(&mut slots, 0), take(&mut slots, 1));
        assert!(read_all(&mut slots).is_empty());
        slots.release(second);
        let Some(Order { slot, unit: 2, buffer }) = slots.next_order() else { panic!("nothing to read") };
        slots.finish(slot, 2, Err((buffer, Error::NoCopy)));
        assert!(matches!(slots.ask(2), Answer::Failed(Error::NoCopy)));
        assert!(matches!(slots.ask(2), Answer::Wait));
        assert_eq!(read_all(&mut slots), [2]);
        slots.release(first);
    }
}
