//! One model running over windows, and its rows of logits scored by the whole team.

use std::sync::OnceLock;

use kernels::Team;
use model::{KvCache, Logits, Model, Workspace};

use crate::Options;
use crate::error::Error;

/// Memory that the logits of one piece may take: a vocabulary of 262,144 gives 64 rows, still an efficient batch.
const LOGITS_BYTES: usize = 64 << 20;

/// Rows of logits that are computed at a time for a vocabulary of this size.
pub(crate) fn piece_rows(vocabulary: usize) -> usize {
    (LOGITS_BYTES / (vocabulary.max(1) * size_of::<f32>())).clamp(16, 256)
}

/// A model with the buffers to run windows through it, one after another.
pub(crate) struct Runner<'a> {
    model: &'a Model,
    team: &'a Team,
    workspace: Workspace,
    cache: KvCache,
    rows: usize,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        model: &'a Model,
        team: &'a Team,
        context: usize,
        options: &Options,
    ) -> Result<Runner<'a>, Error> {
        let rows = piece_rows(model.config.vocabulary);
        Ok(Runner {
            model,
            team,
            workspace: Workspace::new(&model.config, rows),
            cache: KvCache::new(&model.config, context, options.kv_type)?,
            rows,
        })
    }

    /// Starts a window with the tokens whose logits nobody needs.
    pub(crate) fn start(&mut self, tokens: &[u32]) -> Result<(), Error> {
        self.cache.truncate(0);
        for piece in tokens.chunks(self.rows) {
            self.model.forward(self.team, &mut self.workspace, &mut self.cache, piece, Logits::None)?;
        }
        Ok(())
    }

    /// The logits after each of the next tokens, at most [`piece_rows`] of them: `[tokens][vocabulary]`.
    pub(crate) fn logits(&mut self, tokens: &[u32]) -> Result<&[f32], Error> {
        let (workspace, cache) = (&mut self.workspace, &mut self.cache);
        Ok(self.model.forward(self.team, workspace, cache, tokens, Logits::All)?)
    }
}

/// `score(0)` to `score(rows - 1)`, computed by the team, in order: sums over them do not depend on the threads.
pub(crate) fn score_rows<T: Send + Sync>(
    team: &Team,
    rows: usize,
    score: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let scores: Vec<OnceLock<Result<T, Error>>> = (0..rows).map(|_| OnceLock::new()).collect();
    team.run(rows, &|row| {
        // Each row is run once, so the cell is empty.
        let _ = scores[row].set(score(row));
    });
    scores.into_iter().filter_map(OnceLock::into_inner).collect()
}
