//! `$((40 + 2))`: whole numbers, the four operations, remainder and parentheses.

use super::parse::SyntaxError;

/// Deepest nesting of parentheses.
const DEPTH: usize = 32;

/// The value of `text`.
pub(super) fn evaluate(text: &str) -> Result<i64, SyntaxError> {
    let mut reader = Reader { rest: text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>(), at: 0 };
    let value = reader.sum(0)?;
    if reader.at < reader.rest.len() {
        return Err(wrong());
    }
    Ok(value)
}

fn wrong() -> SyntaxError {
    SyntaxError("arithmetic here takes whole numbers, + - * / % and parentheses".to_owned())
}

struct Reader {
    rest: Vec<char>,
    at: usize,
}

impl Reader {
    fn take(&mut self, wanted: &[char]) -> Option<char> {
        let c = *self.rest.get(self.at).filter(|c| wanted.contains(c))?;
        self.at += 1;
        Some(c)
    }

    fn sum(&mut self, depth: usize) -> Result<i64, SyntaxError> {
        let mut value = self.product(depth)?;
        while let Some(sign) = self.take(&['+', '-']) {
            let next = self.product(depth)?;
            value = if sign == '+' { value.wrapping_add(next) } else { value.wrapping_sub(next) };
        }
        Ok(value)
    }

    fn product(&mut self, depth: usize) -> Result<i64, SyntaxError> {
        let mut value = self.number(depth)?;
        while let Some(sign) = self.take(&['*', '/', '%']) {
            let next = self.number(depth)?;
            let result = match sign {
                '*' => Some(value.wrapping_mul(next)),
                '/' => value.checked_div(next),
                _ => value.checked_rem(next),
            };
            value = result.ok_or_else(|| SyntaxError("division by zero".to_owned()))?;
        }
        Ok(value)
    }

    fn number(&mut self, depth: usize) -> Result<i64, SyntaxError> {
        if depth > DEPTH {
            return Err(wrong());
        }
        if self.take(&['-']).is_some() {
            return self.number(depth + 1).map(i64::wrapping_neg);
        }
        if self.take(&['(']).is_some() {
            let value = self.sum(depth + 1)?;
            return self.take(&[')']).map(|_| value).ok_or_else(wrong);
        }
        let mut digits = String::new();
        while let Some(c) = self.rest.get(self.at).filter(|c| c.is_ascii_digit()) {
            digits.push(*c);
            self.at += 1;
        }
        digits.parse().map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_out_as_in_a_shell() {
        for (text, value) in [("40+2", 42), ("2 + 3 * 4", 14), ("(2+3)*-4", -20), ("7/2", 3), ("7%4-1", 2)] {
            assert_eq!(evaluate(text).unwrap(), value, "{text}");
        }
        for bad in ["", "1/0", "1+", "x", "(1", &"(".repeat(100), "99999999999999999999"] {
            assert!(evaluate(bad).is_err(), "{bad}");
        }
    }
}
