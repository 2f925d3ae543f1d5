//! Sets of characters, as the pre-tokenizer patterns name them: `\p{L}`, `[^\s\p{N}]`, `[一-龥]`.
//!
//! ASCII is answered from a bit set; the rest from the general category of the character.

use unicode_general_category::{GeneralCategory, get_general_category};

/// General categories as a bit set, one bit each.
pub(crate) type Categories = u32;

const fn bit(category: GeneralCategory) -> Categories {
    1 << category as u32
}

/// A set of characters. `Default` is the empty set.
#[derive(Clone, Default)]
pub(crate) struct CharacterClass {
    ascii: u128,
    categories: Categories,
    whitespace: bool,
    han: bool,
    ranges: Vec<(char, char)>,
    negated: bool,
    excluded: Option<Box<CharacterClass>>,
}

impl CharacterClass {
    /// The class of a Unicode property, by its name between the braces of `\p{..}`.
    pub(crate) fn property(name: &str) -> Option<Self> {
        use GeneralCategory as G;
        let categories = match name {
            "Lu" => bit(G::UppercaseLetter),
            "Ll" => bit(G::LowercaseLetter),
            "Lt" => bit(G::TitlecaseLetter),
            "Lm" => bit(G::ModifierLetter),
            "Lo" => bit(G::OtherLetter),
            "L" => {
                bit(G::UppercaseLetter)
                    | bit(G::LowercaseLetter)
                    | bit(G::TitlecaseLetter)
                    | bit(G::ModifierLetter)
                    | bit(G::OtherLetter)
            }
            "M" => bit(G::NonspacingMark) | bit(G::SpacingMark) | bit(G::EnclosingMark),
            "Pc" => bit(G::ConnectorPunctuation),
            "Nd" => bit(G::DecimalNumber),
            "N" => bit(G::DecimalNumber) | bit(G::LetterNumber) | bit(G::OtherNumber),
            "P" => {
                bit(G::ConnectorPunctuation)
                    | bit(G::DashPunctuation)
                    | bit(G::OpenPunctuation)
                    | bit(G::ClosePunctuation)
                    | bit(G::InitialPunctuation)
                    | bit(G::FinalPunctuation)
                    | bit(G::OtherPunctuation)
            }
            "S" => bit(G::MathSymbol) | bit(G::CurrencySymbol) | bit(G::ModifierSymbol) | bit(G::OtherSymbol),
            "Han" => return Some(Self { han: true, ..Self::default() }),
            _ => return None,
        };
        let mut class = Self { categories, ..Self::default() };
        for character in (0..128u8).map(char::from) {
            if bit(get_general_category(character)) & categories != 0 {
                class.ascii |= 1 << character as u32;
            }
        }
        Some(class)
    }

    /// `\s`
    pub(crate) fn whitespace() -> Self {
        let mut class = Self { whitespace: true, ..Self::default() };
        for character in (0..128u8).map(char::from).filter(|character| character.is_whitespace()) {
            class.ascii |= 1 << character as u32;
        }
        class
    }

    /// `\d`: the ASCII digits, as the reference implementations read it.
    pub(crate) fn digits() -> Self {
        let mut class = Self::default();
        class.add_range('0', '9');
        class
    }

    pub(crate) fn add_range(&mut self, first: char, last: char) {
        for code in first as u32..=(last as u32).min(127) {
            self.ascii |= 1 << code;
        }
        if last as u32 > 127 {
            self.ranges.push((first, last));
        }
    }

    /// Adds a class that is not negated.
    pub(crate) fn add(&mut self, other: &Self) {
        self.ascii |= other.ascii;
        self.categories |= other.categories;
        self.whitespace |= other.whitespace;
        self.han |= other.han;
        self.ranges.extend_from_slice(&other.ranges);
    }

    /// Adds the other case of every ASCII letter.
    pub(crate) fn ignore_ascii_case(&mut self) {
        const UPPER: u128 = ((1 << 26) - 1) << b'A';
        self.ascii |= (self.ascii & UPPER) << 32 | (self.ascii >> 32) & UPPER;
    }

    pub(crate) fn negate(&mut self) {
        self.negated = !self.negated;
        self.ascii = !self.ascii;
    }

    /// Takes the characters of another class out of this one.
    pub(crate) fn exclude(&mut self, other: Self) {
        self.ascii &= !other.ascii;
        self.excluded = Some(Box::new(other));
    }

    /// Whether an ASCII byte is in the set. The byte must be below 128.
    #[inline]
    pub(crate) fn has_ascii(&self, byte: u8) -> bool {
        self.ascii >> (byte & 127) & 1 != 0
    }

    /// Whether a character is in the set.
    pub(crate) fn has(&self, character: char) -> bool {
        if character.is_ascii() { self.has_ascii(character as u8) } else { self.has_wide(character) }
    }

    /// Whether a character from U+0080 is in the set.
    pub(crate) fn has_wide(&self, character: char) -> bool {
        let inside = (self.categories != 0 && bit(get_general_category(character)) & self.categories != 0)
            || (self.whitespace && character.is_whitespace())
            || (self.han && is_han(character))
            || self.ranges.iter().any(|&(first, last)| first <= character && character <= last);
        inside != self.negated && !self.excluded.as_ref().is_some_and(|excluded| excluded.has_wide(character))
    }
}

/// Chinese characters: the unified ideographs, their extensions and the compatibility forms.
fn is_han(character: char) -> bool {
    matches!(character as u32,
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x2A6DF | 0x2A700..=0x2EBEF
        | 0x2F800..=0x2FA1F)
}
