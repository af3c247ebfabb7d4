//! Bytes that tell a wrong, missing or misplaced transfer from a right one.

use anyhow::{bail, Result};

/// `length` bytes that depend on `seed` and differ at nearly every shift.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64: no period that a block size could hit.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Fails with the first byte that differs.
pub fn compare(expected: &[u8], found: &[u8]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let differs = |(a, b): (&u8, &u8)| a != b;
    let wrong_count = expected.iter().zip(found).filter(|&pair| differs(pair)).count();
    match expected.iter().zip(found).position(differs) {
        Some(at) => bail!(
            "{wrong_count} of {} bytes are wrong, the first at {at}: {:#04x}, not {:#04x}",
            expected.len(),
            found[at],
            expected[at]
        ),
        None => bail!("{} bytes came, not {}", found.len(), expected.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_is_found() {
        let expected = pattern(7, 1003);
        assert_eq!(expected.len(), 1003);
        assert!(compare(&expected, &expected.clone()).is_ok());
        let mut found = expected.clone();
        found[1002] ^= 1;
        let error = compare(&expected, &found).unwrap_err().to_string();
        assert!(error.contains("1 of 1003") && error.contains("at 1002"), "{error}");
        assert!(compare(&expected, &found[..1000]).is_err());
        assert_ne!(pattern(7, 64), pattern(8, 64));
    }
}
