//! What training makes small, with its gradient.

use kernels::ops::softmax;
use rayon::prelude::*;

/// The mean surprise in nats at each row's next token; `logits`, `[token][vocabulary]`, become their gradient.
pub fn cross_entropy(logits: &mut [f32], next: &[u32]) -> f64 {
    let (rows, vocabulary) = (next.len(), logits.len() / next.len());
    let share = 1.0 / rows as f32;
    let losses: Vec<f64> = logits
        .par_chunks_mut(vocabulary)
        .zip(next)
        .map(|(row, &next)| {
            softmax(row);
            let chance = row[next as usize];
            row[next as usize] -= 1.0;
            row.iter_mut().for_each(|slope| *slope *= share);
            -f64::from(chance.max(f32::MIN_POSITIVE)).ln()
        })
        .collect();
    losses.iter().sum::<f64>() / rows as f64
}

/// The sum over rows of the KL divergence of what `logits` say from what `wanted` says, in nats; both are
/// `[token][vocabulary]`, `wanted` becomes chances, and `logits` become `share` times their gradient.
pub fn divergence(logits: &mut [f32], wanted: &mut [f32], vocabulary: usize, share: f32) -> f64 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(vocabulary)
        .zip(wanted.par_chunks_mut(vocabulary))
        .map(|(row, wanted)| {
            softmax(row);
            softmax(wanted);
            let mut loss = 0.0;
            for (chance, wanted) in row.iter_mut().zip(wanted) {
                if *wanted > 0.0 {
                    loss += f64::from(*wanted) * f64::from(*wanted / chance.max(f32::MIN_POSITIVE)).ln();
                }
                *chance = share * (*chance - *wanted);
            }
            loss
        })
        .collect();
    losses.iter().sum()
}
