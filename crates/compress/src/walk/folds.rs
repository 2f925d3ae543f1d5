//! What is folded where: places are tried as the walk comes to them, and what was chosen is kept beside the block.

use gguf::types::F32;

use super::{Read, Walk, tensor_entry};
use crate::bytes::bytes_of;
use crate::error::Error;
use crate::float::{Block, Fold, Folds, Linear, PLACES, Place, Role, Setting, Writer};
use crate::folding::{self, Choice, Values};
use crate::hessian::mean_squares;
use crate::journal::Journal;
use crate::prior::Sample;

/// The journal's entry of what was folded in a block.
fn folds_entry(layer: usize) -> String {
    format!("folds-{layer}")
}

/// The journal's entry of what was folded in a tensor, in words.
pub(crate) fn folded_entry(index: usize) -> String {
    format!("folded-{index}")
}

/// What a walk has folded, by layer.
///
/// # Errors
/// Those of [`Journal::get`].
pub(crate) fn folds(journal: &Journal, layers: usize) -> Result<Vec<Folds>, Error> {
    (0..layers).map(|layer| Ok(journal.value(&folds_entry(layer))?.unwrap_or_default())).collect()
}

impl Walk<'_> {
    /// Whether a place may be folded: all who read it are rounded anyway, who writes it can take it up exactly, and no router
    /// reads it as well. A mixture's feed-forward block stays as it is.
    fn foldable(&self, layer: usize, place: Place) -> bool {
        if self.fold.is_none() {
            return false;
        }
        let rounded = |role: Role| {
            let format = self.format(self.source.stored(layer, role, 0).tensor);
            format.is_some_and(|format| format.grid().is_some())
        };
        let written = match place.writer() {
            Writer::Norm(_) => true,
            Writer::Product(role) => rounded(role),
        };
        let dense = self.source.config.experts.is_none() || matches!(place, Place::Attention | Place::Value);
        let exact = self.exact(layer, place).all(|index| self.source.file.tensors()[index].type_id == F32);
        dense && written && exact && place.readers().iter().all(|&role| rounded(role))
    }

    /// The tensors that are kept exact and write a place, as far as the model has them: a norm or a bias.
    fn exact(&self, layer: usize, place: Place) -> impl Iterator<Item = usize> {
        let names: &'static [&'static str] = match place {
            Place::Attention => &["attn_norm.weight"],
            Place::Value => &["attn_v.bias", "attn_qkv.bias"],
            Place::FeedForward => &["ffn_norm.weight"],
            Place::Hidden => &["ffn_up.bias"],
        };
        let position = move |name: &&str| {
            self.source.file.tensors().iter().position(|info| info.name == format!("blk.{layer}.{name}"))
        };
        names.iter().filter_map(position)
    }

    /// A matrix of a dense block or of attention, and what it is rounded to; `None` for what has no grid.
    fn rounded<'b>(&self, layer: usize, role: Role, linear: &'b Linear) -> Option<folding::Rounded<'b>> {
        let format = self.format(self.source.stored(layer, role, 0).tensor)?;
        Some(folding::Rounded { linear, format, grid: format.grid()? })
    }

    /// Chooses what is folded at a place whose channels are seen in `sample`, and folds it.
    fn fold(
        &self,
        setting: &Setting<'_>,
        place: Place,
        block: &mut Block,
        (sample, halved): (Sample<'_>, bool),
        candidates: Vec<Fold>,
        beside: &mut dyn FnMut(Option<&Fold>) -> Result<f64, Error>,
    ) -> Result<Choice, Error> {
        let readers: Vec<_> = place
            .readers()
            .iter()
            .filter_map(|&role| self.rounded(setting.layer, role, block.matrix(role)))
            .collect();
        let choice = folding::choose(place, setting.config, sample, halved, &readers, candidates, beside)?;
        if let Some(fold) = &choice.fold {
            fold.apply(place, setting.config, block);
        }
        Ok(choice)
    }

    /// Folds a place that a norm writes, which is `input`.
    pub(super) fn fold_normed(
        &self,
        setting: &Setting<'_>,
        place: Place,
        block: &mut Block,
        input: &mut [f32],
        folds: &mut Folds,
    ) -> Result<Found, Error> {
        if !self.foldable(setting.layer, place) {
            return Ok(Found::default());
        }
        let width = setting.config.width;
        let candidates = folding::scales(&mean_squares(input, width, input.len() / width));
        let sample = (self.sample(input, width), false);
        let choice = self.fold(setting, place, block, sample, candidates, &mut |_| Ok(0.0))?;
        if let Some(fold) = &choice.fold {
            fold.values(input);
        }
        Ok(Found::of(place, choice, setting, folds))
    }

    /// Folds what the output of attention reads, by what value makes of `input`; `prior` is the weight that goes with this where it was
    /// tried already.
    pub(super) fn fold_value(
        &self,
        setting: &Setting<'_>,
        block: &mut Block,
        input: &[f32],
        prior: Option<f32>,
        folds: &mut Folds,
    ) -> Result<Found, Error> {
        let (layer, config) = (setting.layer, setting.config);
        let Some(seed) = self.fold.filter(|_| self.foldable(layer, Place::Value)) else {
            return Ok(Found::default());
        };
        let [value, output] = [Role::Value, Role::AttentionOutput].map(|role| block.matrix(role).clone());
        let Some(value) = self.rounded(layer, Role::Value, &value) else { return Ok(Found::default()) };
        let attended = block.attended(setting, input);
        let mut candidates = folding::scales(&folding::squares_of_heads(config, &attended));
        candidates.push(folding::rotation(config, seed.wrapping_add(layer as u64)));
        let sample = self.sample(input, config.width);
        let prior = match prior {
            Some(prior) => prior,
            None => sample.best_weight(&value.linear.weight, value.format)?,
        };
        let mut values = Values::new(config, sample, value, &output, prior);
        let sample = (self.sample(&attended, config.query_width()), false);
        let beside = &mut |fold: Option<&Fold>| values.error(fold);
        let choice = self.fold(setting, Place::Value, block, sample, candidates, beside)?;
        Ok(Found::of(Place::Value, choice, setting, folds))
    }

    /// Folds what down reads, by what gate and up make of `input`.
    pub(super) fn fold_hidden(
        &self,
        setting: &Setting<'_>,
        block: &mut Block,
        input: &[f32],
        folds: &mut Folds,
    ) -> Result<Found, Error> {
        if !self.foldable(setting.layer, Place::Hidden) {
            return Ok(Found::default());
        }
        // The products are large, so no more windows than are looked at.
        let width = block.matrix(Role::Down).columns;
        let some = self.sample(input, setting.config.width).tried(width);
        let (gate, up) = block.gate_and_up(0, &some);
        let hidden = block.activated(setting, gate, &up);
        let candidates = folding::scales(&mean_squares(&hidden, width, hidden.len() / width));
        let sample = (self.sample(&hidden, width), true);
        let choice = self.fold(setting, Place::Hidden, block, sample, candidates, &mut |_| Ok(0.0))?;
        Ok(Found::of(Place::Hidden, choice, setting, folds))
    }

    /// Keeps what was folded, and the norms and biases of `block` that took it up.
    pub(super) fn store_folds(&self, layer: usize, block: &Block, folds: &Folds) -> Result<(), Error> {
        for (place, fold) in PLACES.into_iter().zip(folds) {
            let Some(fold) = fold else { continue };
            for index in self.exact(layer, place) {
                let info = &self.source.file.tensors()[index];
                let biases = |roles: &[Role]| {
                    roles
                        .iter()
                        .filter_map(|&role| block.matrix(role).bias.as_ref())
                        .flatten()
                        .copied()
                        .collect()
                };
                let values: Vec<f32> = match place {
                    Place::Attention => block.norms.attention.clone(),
                    Place::FeedForward => block.norms.feed_forward.clone(),
                    Place::Value if info.name.ends_with("attn_qkv.bias") => {
                        biases(&[Role::Query, Role::Key, Role::Value])
                    }
                    Place::Value => biases(&[Role::Value]),
                    // A bias of gate and up at once has the rows of both.
                    Place::Hidden if info.shape[0] as usize > block.matrix(Role::Up).rows => {
                        biases(&[Role::Gate, Role::Up])
                    }
                    Place::Hidden => biases(&[Role::Up]),
                };
                self.journal.put(&tensor_entry(index), &bytes_of(&values))?;
                self.journal.put_value(&folded_entry(index), &[format!("output {}", fold.in_words())])?;
            }
        }
        self.journal.put_value(&folds_entry(layer), folds)
    }
}

/// What was found for a place; of one that is not foldable nothing.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// As the readers see it.
    pub(super) fold: Option<Fold>,
    /// The best weight of the prior.
    pub(super) prior: Option<f32>,
}

impl Found {
    /// Takes down what was chosen.
    fn of(place: Place, choice: Choice, setting: &Setting<'_>, folds: &mut Folds) -> Found {
        let fold = choice.fold.as_ref().map(|fold| fold.as_read(place, setting.config));
        folds[place as usize] = choice.fold;
        Found { fold, prior: Some(choice.prior) }
    }

    pub(super) fn as_read(&self) -> Read<'_> {
        Read { common: None, prior: self.prior, fold: self.fold.as_ref() }
    }
}

/// What is folded in the matrix in this role.
pub(super) fn in_words(folds: &Folds, role: Role) -> Vec<String> {
    let mut words = Vec::new();
    for (place, fold) in PLACES.into_iter().zip(folds) {
        let Some(fold) = fold else { continue };
        if place.readers().contains(&role) {
            words.push(format!("input {}", fold.in_words()));
        }
        if place.writer() == Writer::Product(role) {
            words.push(format!("output {}", fold.in_words()));
        }
    }
    words
}
