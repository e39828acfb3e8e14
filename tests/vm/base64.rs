//! Base64, in which commands and their output cross the guest's serial line.

use anyhow::{Context as _, Result};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes with padding, on one line.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for digit in 0..4 {
            if digit <= chunk.len() {
                let value = (bits >> (18 - 6 * digit)) & 0x3f;
                text.push(char::from(ALPHABET[value as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Decodes one line, as the guest's `base64` prints it.
pub(crate) fn decode(line: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(line.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in line.trim_end_matches('=').bytes() {
        let value =
            ALPHABET.iter().position(|&letter| letter == digit).with_context(|| format!("not base64: {line:?}"))?;
        bits = (bits << 6) | u32::try_from(value)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff)?);
        }
    }
    Ok(bytes)
}

#[test]
fn base64_round_trips() {
    for length in 0..70_u8 {
        let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(151)).collect();
        let text = encode(&bytes);
        assert_eq!(text.len() % 4, 0);
        assert_eq!(decode(&text).ok(), Some(bytes));
    }
    assert_eq!(encode(b"gmfs"), "Z21mcw==");
    assert!(decode("no base64!").is_err());
}
