//! Integers of more than 64 bits, as Python has them.

use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An integer of any size. Python's `int` arrives as one if it does not fit into an `i64`.
///
/// It converts to and from `i128` and `u128`, and with the feature `num-bigint` to and from `num_bigint::BigInt`, which can
/// compute with it. Without the feature it keeps all digits as well.
///
/// ```
/// use procession::{Value, python::BigInt};
///
/// let big = BigInt::from(1i128 << 80);
/// assert_eq!(i128::try_from(&big).ok(), Some(1 << 80));
/// assert_eq!(big.to_string(), "1208925819614629174706176");
/// assert_eq!(Value::from(7i128), Value::Int(7)); // a small one is an `Int`
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BigInt {
    /// Two's complement, little-endian, with as few bytes as possible.
    bytes: Vec<u8>,
}

/// An integer does not fit into the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the integer has too many bits for the type")]
pub struct TooBig;

impl BigInt {
    /// Makes an integer of its bytes in two's complement, the least significant byte first. No bytes are 0.
    #[must_use]
    pub fn from_le_bytes(bytes: &[u8]) -> BigInt {
        let mut len = bytes.len();
        while len > 0 {
            let below = if len > 1 { bytes[len - 2] & 0x80 } else { 0 };
            let sign = if below == 0 { 0 } else { 0xff };
            if bytes[len - 1] != sign {
                break;
            }
            len -= 1;
        }
        BigInt {
            bytes: bytes[..len].to_vec(),
        }
    }

    /// Returns the bytes in two's complement, the least significant byte first, as few as possible. 0 has none.
    #[must_use]
    pub fn to_le_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether the integer is below 0.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.bytes.last().is_some_and(|last| last & 0x80 != 0)
    }

    /// Returns the nearest `f64`, which is infinite for more than 1024 bits.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        // 1024 bits and the sign. Digits cost time in the square of their number.
        if self.bytes.len() > 129 {
            return if self.is_negative() {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            };
        }
        // The decimal digits are rounded correctly by the parser.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    fn extended<const N: usize>(&self) -> Option<[u8; N]> {
        let mut extended = [if self.is_negative() { 0xff } else { 0 }; N];
        extended.get_mut(..self.bytes.len())?.copy_from_slice(&self.bytes);
        Some(extended)
    }
}

impl fmt::Display for BigInt {
    /// Writes the decimal digits. This takes time in the square of their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<u32> = self
            .bytes
            .chunks(4)
            .map(|chunk| {
                let mut four = [if self.is_negative() { 0xff } else { 0 }; 4];
                four[..chunk.len()].copy_from_slice(chunk);
                u32::from_le_bytes(four)
            })
            .collect();
        if self.is_negative() {
            let mut carry = true;
            for word in &mut words {
                (*word, carry) = (!*word).overflowing_add(u32::from(carry));
            }
            if carry {
                words.push(1);
            }
        }
        let mut groups = Vec::new();
        while words.last() == Some(&0) {
            words.pop();
        }
        while !words.is_empty() {
            let mut rest = 0u64;
            for word in words.iter_mut().rev() {
                let value = rest << 32 | u64::from(*word);
                *word = (value / 1_000_000_000) as u32;
                rest = value % 1_000_000_000;
            }
            groups.push(rest);
            while words.last() == Some(&0) {
                words.pop();
            }
        }
        let mut digits = groups.pop().unwrap_or_default().to_string();
        for group in groups.iter().rev() {
            digits.push_str(&format!("{group:09}"));
        }
        f.pad_integral(!self.is_negative(), "", &digits)
    }
}

impl fmt::Debug for BigInt {
    /// Writes the digits, or the number of bits if there are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.len() <= 64 {
            write!(f, "BigInt({self})")
        } else {
            write!(f, "BigInt({} bits)", 8 * self.bytes.len())
        }
    }
}

impl From<i128> for BigInt {
    fn from(value: i128) -> BigInt {
        BigInt::from_le_bytes(&value.to_le_bytes())
    }
}

impl From<u128> for BigInt {
    fn from(value: u128) -> BigInt {
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.push(0);
        BigInt::from_le_bytes(&bytes)
    }
}

impl TryFrom<&BigInt> for i128 {
    type Error = TooBig;

    fn try_from(value: &BigInt) -> Result<i128, TooBig> {
        value.extended().map(i128::from_le_bytes).ok_or(TooBig)
    }
}

impl TryFrom<&BigInt> for u128 {
    type Error = TooBig;

    fn try_from(value: &BigInt) -> Result<u128, TooBig> {
        let bytes: [u8; 17] = value.extended().ok_or(TooBig)?;
        match bytes.split_first_chunk() {
            Some((low, [0])) => Ok(u128::from_le_bytes(*low)),
            _ => Err(TooBig),
        }
    }
}

impl From<BigInt> for Value {
    /// Makes an `Int` if it fits.
    fn from(value: BigInt) -> Value {
        Value::from_le_bytes_signed(value.to_le_bytes())
    }
}

impl From<i128> for Value {
    fn from(value: i128) -> Value {
        Value::from_le_bytes_signed(&value.to_le_bytes())
    }
}

impl From<u128> for Value {
    fn from(value: u128) -> Value {
        BigInt::from(value).into()
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::from(i128::from(value))
    }
}

impl Value {
    /// Makes an integer of its bytes in two's complement: an `Int` if it fits, else a `BigInt`.
    pub(crate) fn from_le_bytes_signed(bytes: &[u8]) -> Value {
        let big = BigInt::from_le_bytes(bytes);
        match big.extended() {
            Some(eight) => Value::Int(i64::from_le_bytes(eight)),
            None => Value::BigInt(big),
        }
    }
}

#[cfg(feature = "num-bigint")]
impl From<&BigInt> for num_bigint::BigInt {
    fn from(value: &BigInt) -> Self {
        num_bigint::BigInt::from_signed_bytes_le(value.to_le_bytes())
    }
}

#[cfg(feature = "num-bigint")]
impl From<&num_bigint::BigInt> for BigInt {
    fn from(value: &num_bigint::BigInt) -> Self {
        BigInt::from_le_bytes(&value.to_signed_bytes_le())
    }
}

#[cfg(feature = "num-bigint")]
impl From<&num_bigint::BigInt> for Value {
    fn from(value: &num_bigint::BigInt) -> Self {
        BigInt::from(value).into()
    }
}

#[cfg(feature = "num-bigint")]
impl TryFrom<&Value> for num_bigint::BigInt {
    type Error = crate::shared_value::NotShared;

    fn try_from(value: &Value) -> Result<Self, Self::Error> {
        match value {
            Value::Int(value) => Ok((*value).into()),
            Value::BigInt(value) => Ok(value.into()),
            other => Err(crate::shared_value::NotShared::new("int", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_keeps_its_value_in_few_bytes() {
        for value in [
            0i128,
            1,
            -1,
            127,
            128,
            -128,
            -129,
            255,
            i128::MAX,
            i128::MIN,
            1 << 80,
            -(1 << 80),
        ] {
            let big = BigInt::from(value);
            assert_eq!(i128::try_from(&big), Ok(value));
            assert_eq!(big.to_string(), value.to_string());
            assert!(big.to_le_bytes().len() <= 16);
            let mut longer = value.to_le_bytes().to_vec();
            longer.extend([if value < 0 { 0xff } else { 0 }; 5]);
            assert_eq!(BigInt::from_le_bytes(&longer), big);
        }
        assert_eq!(u128::try_from(&BigInt::from(u128::MAX)), Ok(u128::MAX));
        assert!(i128::try_from(&BigInt::from(u128::MAX)).is_err());
        assert!(u128::try_from(&BigInt::from(-1i128)).is_err());
        assert_eq!(BigInt::from(u128::MAX).to_string(), u128::MAX.to_string());
        assert_eq!(BigInt::from(1i128 << 80).to_f64(), 2f64.powi(80));
    }
}
