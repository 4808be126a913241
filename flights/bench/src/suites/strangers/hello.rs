//! A follower's hello, made by hand: strangers are no followers.

/// The frame in which somebody of this name and schema says hello, in protocol 1, which is the shortest.
pub(crate) fn hello(fingerprint: u128, name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    number(&mut body, fingerprint);
    number(&mut body, name.len() as u128);
    body.extend_from_slice(name.as_bytes());
    // No position.
    body.push(0);
    // A request, whose deadline is 10 s and 0 ns.
    let mut frame = vec![0, 10, 0];
    // Trace and span, not sampled; number 1; hello, of protocol 1.
    frame.extend_from_slice(&[7; 16]);
    frame.extend_from_slice(&[1, 1, 1, 0, 1]);
    number(&mut frame, body.len() as u128);
    frame.extend_from_slice(&body);
    let len = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&len[1..], &frame].concat()
}

/// A number as postcard writes it: seven bits a byte, the lowest first.
fn number(bytes: &mut Vec<u8>, mut number: u128) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_seven_bits_a_byte() {
        let written = |value| {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            bytes
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [127]);
        assert_eq!(written(300), [0xac, 2]);
        assert_eq!(written(u128::MAX).len(), 19);
    }
}
