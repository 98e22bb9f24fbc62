//! Enums whose variants are words of the command line and of the control API.

/// The text is not one of the words of a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", .words.join(", "))]
pub struct InvalidWord {
    words: &'static [&'static str],
}

impl InvalidWord {
    pub(crate) fn one_of(words: &'static [&'static str]) -> Self {
        Self { words }
    }
}

/// Defines an enum and the word of each variant.
///
/// `ALL`, `WORDS`, `label`, `Display` and `FromStr` use this table.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every variant, in order.
            $visibility const ALL: [Self; Self::WORDS.len()] = [$(Self::$variant),+];

            /// Every word, in the order of the variants.
            $visibility const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word, as the command line and the control API spell it.
            $visibility fn label(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::InvalidWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let named = Self::ALL.iter().find(|variant| variant.label() == text);
                named.copied().ok_or($crate::words::InvalidWord::one_of(Self::WORDS))
            }
        }
    };
}

pub(crate) use words;

/// Returns the word of a set that a request names.
///
/// Graph compares the members of its enums without regard to case. Microsoft's calling SDK writes them in
/// PascalCase, the Graph reference in camelCase.
pub(crate) fn word_in_any_case(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_any_case() {
        let words = ["audio", "videoBasedScreenSharing"];
        for (text, expected) in [
            ("audio", Some("audio")),
            ("Audio", Some("audio")),
            ("VIDEOBASEDSCREENSHARING", Some("videoBasedScreenSharing")),
            ("", None),
            ("audi\u{f6}", None),
            ("audios", None),
        ] {
            assert_eq!(word_in_any_case(text, &words), expected, "{text}");
        }
    }
}
