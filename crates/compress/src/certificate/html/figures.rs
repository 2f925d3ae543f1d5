//! Figures with their standard errors.

use report::significant;

use crate::certificate::Figure;

/// `0.0312 ± 0.0008`, both to the digit at which the error begins to count.
pub(super) fn with_error(figure: Figure) -> String {
    let Figure { value, stderr } = figure;
    if stderr <= 0.0 || !stderr.is_finite() {
        return significant(value, 4);
    }
    let places = (1 - stderr.log10().floor() as i32).clamp(0, 9) as usize;
    format!("{value:.places$} ± {stderr:.places$}")
}

/// `± 0.0008`.
pub(super) fn error_of(figure: Figure) -> String {
    format!("± {}", significant(figure.stderr, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_end_where_their_error_begins_to_count() {
        assert_eq!(with_error(Figure { value: 12.3456, stderr: 0.0213 }), "12.346 ± 0.021");
        assert_eq!(with_error(Figure { value: 0.5, stderr: 0.0 }), "0.5000");
        assert_eq!(error_of(Figure { value: 0.5, stderr: 0.0213 }), "± 0.021");
    }
}
