//! Pages with a part that is made by a program.

/// What ends such a part.
const END: &str = "<!-- end of what was made -->\n";

/// The page with `made` between the line `begin` and the end, in the place of what is there.
pub(crate) fn replace(page: &str, begin: &str, made: &str) -> Result<String, String> {
    let missing = || format!("the page has no place for it: {begin}...\n{END}");
    let (before, rest) = page.split_once(begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{begin}{made}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_of_what_is_made_changes() {
        let begin = "<!-- begin -->\n";
        let page = format!("# Title\n\n{begin}old\n{END}\nmore\n");
        assert_eq!(replace(&page, begin, "new\n").unwrap(), format!("# Title\n\n{begin}new\n{END}\nmore\n"));
        assert!(replace("# Title\n", begin, "new\n").is_err());
    }
}
