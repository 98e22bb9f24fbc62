//! Numbers in a line. `fmt` would cost several times as much.

/// Appends a number.
pub(super) fn push_number(out: &mut String, number: u64) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    push_last_digit(out, number);
}

/// Appends three digits: the number of thousandths.
pub(super) fn push_thousandths(out: &mut String, number: u64) {
    push_last_digit(out, number / 100);
    push_last_digit(out, number / 10);
    push_last_digit(out, number);
}

/// Appends the last digit of a number.
pub(super) fn push_last_digit(out: &mut String, number: u64) {
    let digit = u8::try_from(number % 10).unwrap_or_default();
    out.push(char::from(b'0' + digit));
}
