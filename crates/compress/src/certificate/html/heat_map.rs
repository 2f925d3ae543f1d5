//! A figure of every matrix as colours: a row for each kind of tensor, a column for each layer.

use report::{escaped, put};

use crate::certificate::Tensor;

/// Pixels: a cell's side, the labels left of the rows, the numbers of the layers above.
const CELL: usize = 24;
const LABELS: usize = 116;
const TOP: usize = 20;
/// Steps of colour, classes `s0` to `s6` of the style; from this one on text stands on the other end of the scale.
pub(super) const STEPS: usize = 7;
const HIGH: usize = 4;

/// What one tensor shows.
pub(super) struct Cell {
    /// 0 to [`STEPS`] - 1; `None` leaves the cell empty.
    pub(super) step: Option<usize>,
    /// A few characters within the cell.
    pub(super) label: String,
    /// What a pointer that rests on it is told.
    pub(super) title: String,
}

/// Where a tensor lies: its layer, or none, and its kind: `blk.3.ffn_down.weight` is `ffn_down` of layer 3.
pub(super) fn place(name: &str) -> (Option<usize>, &str) {
    let bare = name.strip_suffix(".weight").unwrap_or(name);
    let parts = bare.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match parts.and_then(|(layer, kind)| Some((layer.parse().ok()?, kind))) {
        Some((layer, kind)) => (Some(layer), kind),
        None => (None, bare),
    }
}

/// Matrices are shown; vectors are kept exact and would only be in the way.
pub(super) fn matrices(tensors: &[Tensor]) -> impl Iterator<Item = &Tensor> {
    tensors.iter().filter(|tensor| tensor.shape.len() > 1)
}

/// The map, with `title` and `description` for those who do not see it. Layers that a hostile file numbers absurdly are
/// shown without a gap between.
pub(super) fn heat_map(
    tensors: &[Tensor],
    title: &str,
    description: &str,
    cell: &dyn Fn(&Tensor) -> Cell,
) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    let mut layers: Vec<usize> = Vec::new();
    let mut outside: Vec<&Tensor> = Vec::new();
    for tensor in matrices(tensors) {
        match place(&tensor.name) {
            (Some(layer), kind) => {
                layers.push(layer);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            (None, _) => outside.push(tensor),
        }
    }
    layers.sort_unstable();
    layers.dedup();
    let width = LABELS + CELL * layers.len().max(4) + 8;
    let height = TOP + CELL * (kinds.len() + outside.len()) + 4;
    let mut out = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>{}</title><desc>{}</desc>\n",
        escaped(title),
        escaped(description)
    );
    for (column, layer) in layers.iter().enumerate() {
        let x = LABELS + CELL * column + CELL / 2;
        put(&mut out, format_args!("<text class=\"small cell\" x=\"{x}\" y=\"14\">{layer}</text>\n"));
    }
    let label = |out: &mut String, row: usize, text: &str| {
        let (x, y) = (LABELS - 8, TOP + CELL * row + 16);
        put(out, format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>\n", escaped(text)));
    };
    outside.iter().enumerate().for_each(|(row, tensor)| label(&mut out, row, place(&tensor.name).1));
    kinds.iter().enumerate().for_each(|(row, kind)| label(&mut out, outside.len() + row, kind));
    let mut row_outside = 0;
    for tensor in matrices(tensors) {
        let (column, row) = match place(&tensor.name) {
            (Some(layer), kind) => (
                layers.binary_search(&layer).unwrap_or_default(),
                outside.len() + kinds.iter().position(|known| *known == kind).unwrap_or_default(),
            ),
            (None, _) => {
                row_outside += 1;
                (0, row_outside - 1)
            }
        };
        draw(&mut out, LABELS + CELL * column, TOP + CELL * row, &cell(tensor));
    }
    out + "</svg>\n"
}

/// The scale below a map: its steps with their names.
pub(super) fn legend(names: &[String; STEPS], title: &str) -> String {
    const WIDE: usize = 46;
    let width = WIDE * STEPS + 2;
    let mut out = format!(
        "<svg viewBox=\"0 0 {width} 40\" width=\"{width}\" height=\"40\" role=\"img\"><title>{}</title>\n",
        escaped(title)
    );
    for (step, name) in names.iter().enumerate() {
        let (x, middle) = (WIDE * step + 1, WIDE * step + WIDE / 2);
        put(
            &mut out,
            format_args!(
                "<rect class=\"s{step}\" x=\"{x}\" y=\"4\" width=\"{WIDE}\" height=\"14\"/>\
                 <text class=\"small\" x=\"{middle}\" y=\"34\" text-anchor=\"middle\">{}</text>\n",
                escaped(name)
            ),
        );
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, x: usize, y: usize, cell: &Cell) {
    let class = cell.step.map_or("none".to_owned(), |step| format!("s{}", step.min(STEPS - 1)));
    let contrast = if cell.step.is_some_and(|step| step >= HIGH) { "high" } else { "low" };
    put(
        out,
        format_args!(
            "<g><title>{}</title><rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{side}\" height=\"{side}\" rx=\"2\"/>\
             <text class=\"cell {contrast}\" x=\"{}\" y=\"{}\">{}</text></g>\n",
            escaped(&cell.title),
            x + 1,
            y + 1,
            x + CELL / 2,
            y + 16,
            escaped(&cell.label),
            side = CELL - 2,
        ),
    );
}
