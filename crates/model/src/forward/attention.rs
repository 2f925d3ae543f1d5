//! The first half of a layer: query, key and value products, rotation, the cache, attention, the output product.

use std::ops::Range;

use kernels::ops::attention::{self, Attention, PAGE};
use kernels::{Team, multiply, ops};

use super::{LayerWeights, TOKENS_PER_CHUNK, add_bias, join, keep, set_normalised};
use crate::cache::{KvCache, written};
use crate::config::Config;
use crate::model::Model;
use crate::rope::{RopeStyle, Rotation};
use crate::workspace::Workspace;

impl Model {
    /// Stores the keys and values of the whole batch for the layer with these `weights`, each text's in its cache, and adds attention's
    /// outcome to the residual stream of the tokens in `rows`.
    pub(super) fn attention(
        &self,
        team: &Team,
        workspace: &mut Workspace,
        caches: &mut [&mut KvCache],
        weights: &LayerWeights<'_>,
        rows: Range<usize>,
    ) {
        let index = weights.index;
        let (config, layer) = (&self.config, &self.weights.layers[index]);
        let (width, tokens) = (config.width, workspace.tokens);
        let Workspace {
            segments,
            stream,
            branch,
            query,
            key,
            value,
            attended,
            input,
            rotations,
            scratch,
            ..
        } = workspace;
        let branch = &mut branch[..tokens * width];
        let query = &mut query[..tokens * config.query_width()];
        let key = &mut key[..tokens * config.kv_width()];
        let value = &mut value[..tokens * config.kv_width()];
        let projections = [&layer.query, &layer.key, &layer.value];
        let keep_as = keep(projections.map(|projection| &projection.matrix));
        set_normalised(team, config, input, &stream[..tokens * width], &layer.attention_norm, keep_as);
        multiply(
            team,
            &mut [
                weights.product(&layer.query.matrix, input, query),
                weights.product(&layer.key.matrix, input, key),
                weights.product(&layer.value.matrix, input, value),
            ],
        );
        add_bias(team, &layer.query, query);
        add_bias(team, &layer.key, key);
        add_bias(team, &layer.value, value);
        let rope = config.layers[index].rope;
        let (rotation, angles) = (&self.weights.rotations[rope], &rotations[rope]);
        turn(team, config, query, config.heads, layer.query_norm.as_deref(), rotation, angles);
        turn(team, config, key, config.kv_heads, layer.key_norm.as_deref(), rotation, angles);
        let (count, query_width, kv_width) = (rows.len(), config.query_width(), config.kv_width());
        let attended = &mut attended[..count * query_width];
        for (segment, cache) in segments.iter().zip(caches) {
            let own = segment.tokens.start * kv_width..segment.tokens.end * kv_width;
            let first = segment.first_position;
            store(team, cache, index, &key[own.clone()], &value[own], kv_width);
            let seen = segment.tokens.start.max(rows.start)..segment.tokens.end.min(rows.end);
            if seen.is_empty() {
                continue;
            }
            attention::attend(
                team,
                &Attention {
                    shape: cache.layout().shape,
                    pages: cache.pages(),
                    layer: cache.layout().layer(index).start,
                    queries: &query[seen.start * query_width..seen.end * query_width],
                    heads: config.heads,
                    kv_heads: config.kv_heads,
                    first_position: first + seen.start - segment.tokens.start,
                    window: config.layers[index].window,
                    scale: config.attention_scale,
                    softcap: config.attention_softcap,
                },
                scratch,
                &mut attended[(seen.start - rows.start) * query_width..(seen.end - rows.start) * query_width],
            );
        }
        if rows.is_empty() {
            return;
        }
        let output = &layer.attention_output;
        input.set(team, attended, count, query_width, keep([&output.matrix]));
        let branch = &mut branch[..count * width];
        multiply(team, &mut [weights.product(&output.matrix, input, branch)]);
        let stream = &mut stream[rows.start * width..rows.end * width];
        join(team, config, branch, output.bias.as_ref(), layer.post_attention_norm.as_ref(), stream);
    }
}

/// Normalises where the model does, then rotates, every head of every token; `x` is `[token][heads * head_dim]`.
fn turn(
    team: &Team,
    config: &Config,
    x: &mut [f32],
    heads: usize,
    norm: Option<&[f32]>,
    rotation: &Rotation,
    angles: &[f32],
) {
    let rotate = match rotation.style {
        RopeStyle::Adjacent => ops::rope_adjacent,
        RopeStyle::Halves => ops::rope_halves,
    };
    let (width, dimensions) = (heads * config.head_dim, rotation.dimensions);
    team.for_rows(x, width, TOKENS_PER_CHUNK, &|first, rows| {
        for (token, angles) in
            rows.chunks_exact_mut(width).zip(angles[first * dimensions..].chunks_exact(dimensions))
        {
            for head in token.chunks_exact_mut(config.head_dim) {
                if let Some(norm) = norm {
                    ops::rms_norm_in_place(head, norm, config.norm_epsilon);
                }
                rotate(&mut head[..dimensions], angles);
            }
        }
    });
}

/// Puts the batch's keys and values, `[token][kv_heads * head_dim]`, at the next positions of a layer, a page a chunk.
fn store(team: &Team, cache: &mut KvCache, layer: usize, keys: &[f32], values: &[f32], width: usize) {
    let (layout, first) = (cache.layout(), cache.len());
    let (shape, tokens) = (layout.shape, keys.len() / width);
    team.for_rows(cache.next_pages(tokens), 1, 1, &|index, pages| {
        let start = (first / PAGE + index) * PAGE;
        let batch = first.max(start) - first..(start + PAGE).min(first + tokens) - first;
        let areas = written(&mut pages[0])[layout.layer(layer)].chunks_exact_mut(shape.bytes());
        for (head, area) in areas.enumerate() {
            for token in batch.clone() {
                let (at, row) = (first + token - start, token * width + head * shape.head_dim);
                attention::store_key(&shape, area, at, &keys[row..row + shape.head_dim]);
                attention::store_value(&shape, area, at, &values[row..row + shape.head_dim]);
            }
        }
    });
}
