//! The byte-level alphabet: each of the 256 bytes as one visible character.
//!
//! Byte-level vocabularies write every token in this alphabet, so that a token is always a valid string and
//! never holds a space: printable bytes stand for themselves, the others for the characters from U+0100
//! (a space becomes `Ġ`). Introduced by GPT-2's `bytes_to_unicode`.

/// The character for each byte.
pub(crate) const CHARACTERS: [char; 256] = characters();

/// Characters of the alphabet lie below this code point.
const BYTES_BY_CHARACTER: [u16; 0x144] = bytes_by_character();

const NONE: u16 = u16::MAX;

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn characters() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut byte = 0;
    let mut next = 0x100;
    while byte < 256 {
        if stands_for_itself(byte as u8) {
            table[byte] = byte as u8 as char;
        } else {
            table[byte] = match char::from_u32(next) {
                Some(character) => character,
                None => unreachable!(),
            };
            next += 1;
        }
        byte += 1;
    }
    table
}

const fn bytes_by_character() -> [u16; 0x144] {
    let mut table = [NONE; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[CHARACTERS[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
}

/// The byte that a character of the alphabet stands for.
pub(crate) fn byte(character: char) -> Option<u8> {
    match BYTES_BY_CHARACTER.get(character as usize) {
        Some(&byte) if byte != NONE => Some(byte as u8),
        _ => None,
    }
}

/// Writes text in the alphabet, appended to `out`.
pub(crate) fn write(text: &[u8], out: &mut String) {
    out.extend(text.iter().map(|&byte| CHARACTERS[byte as usize]));
}

/// The bytes that a token text stands for. A character outside the alphabet, which only a malformed
/// vocabulary has, stands for its own UTF-8 bytes.
pub(crate) fn read(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte(character) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_and_comes_back() {
        for value in 0..=255u8 {
            assert_eq!(byte(CHARACTERS[value as usize]), Some(value));
        }
        assert_eq!(CHARACTERS[b' ' as usize], 'Ġ');
        assert_eq!(CHARACTERS[b'\n' as usize], 'Ċ');
    }

    #[test]
    fn characters_outside_the_alphabet_stand_for_themselves() {
        assert_eq!(read("Ġa日"), " a日".as_bytes());
    }
}
