//! Interleaves matrix after matrix in a buffer of a few megabytes, the team's threads side by side, and hands the
//! buffer on in order.

use std::sync::{Mutex, PoisonError};

use kernels::{Format, Team};

use super::Progress;
use crate::plan::Plan;

/// Large enough that starting the team is nothing, small enough to stay in the cache until it is written.
const BUFFER_BYTES: usize = 8 << 20;

/// Rows that one job interleaves; the kernels' groups of 16 allow any multiple of that.
const GROUP_ROWS: usize = 16;
const JOB_BYTES: usize = 256 << 10;

/// Some rows of one matrix, and where they go.
struct Job<'a> {
    format: &'static Format,
    rows: usize,
    columns: usize,
    file: &'a [u8],
    /// Zeros before the rows, so that a matrix starts aligned.
    padding: usize,
    out_bytes: usize,
}

/// Builds what `plan` describes and hands it to `write`.
///
/// # Errors
/// Only those of `write`.
pub(super) fn write(
    file: &gguf::File,
    plan: &Plan,
    team: Option<&Team>,
    progress: Option<Progress<'_>>,
    write: &mut dyn FnMut(&[u8]) -> Result<(), gguf::Error>,
) -> Result<(), gguf::Error> {
    let alone = Team::new(1);
    let team = team.unwrap_or(&alone);
    let mut buffer = Vec::new();
    let (mut batch, mut batch_bytes, mut done) = (Vec::new(), 0, 0);
    for job in jobs(file, plan) {
        let bytes = job.padding + job.out_bytes;
        if batch_bytes + bytes > BUFFER_BYTES && !batch.is_empty() {
            done += flush(team, &mut batch, &mut buffer, batch_bytes, write)?;
            batch_bytes = 0;
            if let Some(progress) = progress {
                progress(done as u64, plan.bytes() as u64);
            }
        }
        batch.push(job);
        batch_bytes += bytes;
    }
    done += flush(team, &mut batch, &mut buffer, batch_bytes, write)?;
    if let Some(progress) = progress {
        progress(done as u64, plan.bytes() as u64);
    }
    Ok(())
}

/// Every matrix in pieces, in the order of the copy.
fn jobs<'a>(file: &'a gguf::File, plan: &'a Plan) -> impl Iterator<Item = Job<'a>> {
    let mut end = 0;
    plan.matrices().iter().flat_map(move |stored| {
        let row_bytes = stored.format.row_bytes(stored.columns);
        let data = stored.file_rows(file);
        let rows_a_job = (JOB_BYTES / (row_bytes * GROUP_ROWS).max(1)).max(1) * GROUP_ROWS;
        let gap = stored.offset() - end;
        end = stored.offset() + stored.bytes();
        (0..stored.rows).step_by(rows_a_job).map(move |first| {
            let rows = rows_a_job.min(stored.rows - first);
            Job {
                format: stored.format,
                rows,
                columns: stored.columns,
                file: &data[first * row_bytes..(first + rows) * row_bytes],
                padding: if first == 0 { gap } else { 0 },
                out_bytes: stored.format.interleaved_bytes(rows, stored.columns),
            }
        })
    })
}

/// Runs the jobs into the buffer, writes it, and returns its size.
fn flush(
    team: &Team,
    batch: &mut Vec<Job<'_>>,
    buffer: &mut Vec<u8>,
    bytes: usize,
    write: &mut dyn FnMut(&[u8]) -> Result<(), gguf::Error>,
) -> Result<usize, gguf::Error> {
    buffer.resize(bytes.max(buffer.len()), 0);
    let mut rest = &mut buffer[..bytes];
    let work: Vec<_> = batch
        .drain(..)
        .map(|job| {
            let (out, after) = std::mem::take(&mut rest).split_at_mut(job.padding + job.out_bytes);
            rest = after;
            Mutex::new((job, out))
        })
        .collect();
    team.run(work.len(), &|index| {
        let mut held = work[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (job, out) = &mut *held;
        let (padding, out) = out.split_at_mut(job.padding);
        padding.fill(0);
        job.format.interleave(job.rows, job.columns, job.file, out);
    });
    drop(work);
    write(&buffer[..bytes])?;
    Ok(bytes)
}
