//! Figures as pages write them, and text that is safe to stand in one.

/// The text with everything escaped that means something in HTML, in attributes too.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// `352.1 MB`.
pub fn bytes(count: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(size, _)| count as f64 >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size),
        None => format!("{count} B"),
    }
}

/// `494.0 million`.
pub fn count(count: u64) -> String {
    let units = [(1e9, "thousand million"), (1e6, "million"), (1e3, "thousand")];
    match units.into_iter().find(|(size, _)| count as f64 >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size),
        None => count.to_string(),
    }
}

/// A number with so many digits that count: `0.0312`, `12.35`, `1.2e-7`.
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let power = value.abs().log10().floor() as i32;
    if !(-5..6).contains(&power) {
        return format!("{value:.*e}", (digits - 1).max(0) as usize);
    }
    format!("{value:.*}", (digits - 1 - power).max(0) as usize)
}

/// `91.2 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `12 s`, `3 min 20 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) if seconds < 10.0 => format!("{seconds:.1} s"),
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(352_100_000), "352.1 MB");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(significant(0.031_234, 3), "0.0312");
        assert_eq!(significant(12.345_6, 4), "12.35");
        assert_eq!(significant(1.234e-7, 2), "1.2e-7");
        assert_eq!(significant(123_456.7, 3), "123457");
        assert_eq!(percent(0.9123), "91.2 %");
        assert_eq!(
            [duration(3.21), duration(59.8), duration(200.0), duration(3900.0)],
            ["3.2 s", "1 min 0 s", "3 min 20 s", "1 h 5 min"]
        );
    }

    #[test]
    fn nothing_gets_out_of_its_place() {
        assert_eq!(escaped("<a b='c' d=\"e\">&"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
    }
}
