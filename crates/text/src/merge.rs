//! The merging that both kinds of vocabulary share: of all neighbours that may join, the best pair joins
//! first, until none may.
//!
//! A heap holds the candidate pairs, so that a text of n symbols takes O(n log n) whatever it holds. Pairs
//! that a merge made impossible stay in the heap and are recognised when they come up.

use std::collections::BinaryHeap;

/// A stretch of the text that is one symbol. Symbols form a list by index.
#[derive(Clone, Copy)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    pub(crate) start: usize,
    /// Equal to `start` once the symbol has been merged into its left neighbour.
    pub(crate) end: usize,
    previous: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

struct Candidate<P> {
    priority: P,
    left: usize,
    right: usize,
    /// Where the right symbol ended when this was found: it has grown if it ends elsewhere now.
    end: usize,
    merged: u32,
}

impl<P: Ord> Ord for Candidate<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Of equal priorities the leftmost pair.
        self.priority.cmp(&other.priority).then_with(|| other.left.cmp(&self.left))
    }
}

impl<P: Ord> PartialOrd for Candidate<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P: Ord> PartialEq for Candidate<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<P: Ord> Eq for Candidate<P> {}

/// Buffers that serve one word after the other. `P` orders the pairs, the greatest merges first.
pub(crate) struct Merger<P> {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate<P>>,
}

impl<P: Ord> Merger<P> {
    pub(crate) fn new() -> Self {
        Self { symbols: Vec::new(), queue: BinaryHeap::new() }
    }

    /// Starts a new word.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Appends a symbol of `length` bytes (at least 1) to the word.
    pub(crate) fn push(&mut self, id: u32, length: usize) {
        let index = self.symbols.len();
        let start = self.symbols.last().map_or(0, |last| last.end);
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        let previous = if index == 0 { NONE } else { index - 1 };
        self.symbols.push(Symbol { id, start, end: start + length, previous, next: NONE });
    }

    /// Merges as long as `pair` knows a priority and the id of the whole for two neighbours; returns what is
    /// left, in order.
    pub(crate) fn merge(
        &mut self,
        pair: impl Fn(&Symbol, &Symbol) -> Option<(P, u32)>,
    ) -> impl Iterator<Item = &Symbol> {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right, &pair);
        }
        while let Some(candidate) = self.queue.pop() {
            let Candidate { left, right, end, merged, .. } = candidate;
            let (is_left_gone, right_now) =
                (self.symbols[left].start == self.symbols[left].end, self.symbols[right]);
            if is_left_gone || right_now.start == right_now.end || right_now.end != end {
                continue;
            }
            self.symbols[right].start = end;
            self.symbols[left].id = merged;
            self.symbols[left].end = end;
            self.symbols[left].next = right_now.next;
            if right_now.next != NONE {
                self.symbols[right_now.next].previous = left;
                self.consider(left, right_now.next, &pair);
            }
            let previous = self.symbols[left].previous;
            if previous != NONE {
                self.consider(previous, left, &pair);
            }
        }
        self.symbols.iter().filter(|symbol| symbol.start < symbol.end)
    }

    fn consider(&mut self, left: usize, right: usize, pair: &impl Fn(&Symbol, &Symbol) -> Option<(P, u32)>) {
        if let Some((priority, merged)) = pair(&self.symbols[left], &self.symbols[right]) {
            self.queue.push(Candidate { priority, left, right, end: self.symbols[right].end, merged });
        }
    }
}
