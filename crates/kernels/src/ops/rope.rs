//! Rotary position embedding (Su et al., 2021): pairs of values turn by an angle that grows with the position.

/// Turns the pairs `(2i, 2i + 1)` of a head; `cos_sin` is `[pair][2]` for this position. Values past the last pair
/// stay as they are.
pub fn rope_adjacent(head: &mut [f32], cos_sin: &[f32]) {
    for (pair, turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos_sin.as_chunks::<2>().0) {
        let ([a, b], [cos, sin]) = (*pair, *turn);
        *pair = [a * cos - b * sin, a * sin + b * cos];
    }
}

/// Turns the pairs `(i, i + pairs)` of a head; `cos_sin` is `[pair][2]` for this position. Values past the last
/// pair stay as they are.
///
/// # Panics
/// If the head is shorter than two values a pair.
pub fn rope_halves(head: &mut [f32], cos_sin: &[f32]) {
    let pairs = cos_sin.len() / 2;
    let (first, second) = head[..2 * pairs].split_at_mut(pairs);
    for ((a, b), [cos, sin]) in first.iter_mut().zip(second).zip(cos_sin.as_chunks::<2>().0) {
        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
    }
}
