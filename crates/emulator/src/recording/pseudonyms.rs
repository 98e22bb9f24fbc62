//! The replacements of one recording: the same value always gets the same replacement.

use std::{collections::HashMap, fmt::Write as _};

use openssl::error::ErrorStack;
use uuid::Uuid;

use crate::encoding::random_id;

/// The classes of values that are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// A telephone number with a plus sign.
    Phone,
    /// Digits without a plus sign.
    Digits,
    /// An e-mail address.
    Mail,
    /// A URL.
    Url,
    /// A date and time.
    Date,
    /// A part of an id that is not a GUID.
    Id,
    /// The name of a member that is not a word.
    Name,
    /// Any other text.
    Text,
}

/// The replacements so far. It keeps the replaced values in memory only.
#[derive(Debug)]
pub(super) struct Pseudonyms {
    /// Random, so that a replaced GUID cannot be found by trying all replacements.
    salt: Uuid,
    guids: HashMap<Uuid, u64>,
    values: HashMap<(Class, String), u64>,
    counts: HashMap<Class, u64>,
}

impl Pseudonyms {
    pub(super) fn new() -> Result<Self, ErrorStack> {
        Ok(Self { salt: random_id()?, guids: HashMap::new(), values: HashMap::new(), counts: HashMap::new() })
    }

    /// Returns the replacement of a GUID. The nil GUID names no one and stays.
    pub(super) fn guid(&mut self, guid: Uuid) -> Option<Uuid> {
        if guid.is_nil() {
            return Some(guid);
        }
        let next = count(self.guids.len());
        if next >= VALUES_MAX && !self.guids.contains_key(&guid) {
            return None;
        }
        let number = *self.guids.entry(guid).or_insert(next + 1);
        // The version and the variant are those of a random GUID. The number makes it unique in the file.
        let salt = self.salt.as_u128() & SALT_BITS;
        Some(Uuid::from_u128(salt | GUID_FORM | u128::from(number)))
    }

    /// Returns the replacement of a value of a class; `None` if there are too many values.
    pub(super) fn value(&mut self, class: Class, value: &str) -> Option<String> {
        let key = (class, value.to_owned());
        let number = match self.values.get(&key) {
            Some(number) => *number,
            None if count(self.values.len()) >= VALUES_MAX => return None,
            None => {
                let counted = self.counts.entry(class).or_default();
                *counted += 1;
                let number = *counted;
                self.values.insert(key, number);
                number
            }
        };
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match class {
            // No country has the code 999.
            Class::Phone => write!(text, "+999{number:08}"),
            Class::Digits => write!(text, "999{number:08}"),
            Class::Mail => write!(text, "person-{number}@example.com"),
            Class::Url => write!(text, "https://replaced.example/{number}"),
            Class::Date => {
                let (hours, minutes, seconds) = (number / 3_600 % 24, number / 60 % 60, number % 60);
                write!(text, "2000-01-01T{hours:02}:{minutes:02}:{seconds:02}Z")
            }
            // Of one length, and long enough to be found in a text: a replay replaces ids again.
            Class::Id => write!(text, "replaced-id-{number:06}"),
            Class::Name => write!(text, "member{number}"),
            Class::Text => write!(text, "text {number}"),
        };
        Some(text)
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// More than a day of a busy bot has. It bounds the memory of a recorder that is sent garbage.
const VALUES_MAX: u64 = 200_000;

/// The version 4 and the variant of RFC 9562.
const GUID_FORM: u128 = 0x0000_0000_0000_4000_8000_0000_0000_0000;
const SALT_BITS: u128 = 0xffff_ffff_ffff_0fff_0000_0000_0000_0000;
