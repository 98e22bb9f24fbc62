//! `spelled!`: an enum whose variants are words of Graph.

/// Declares an enum with one word of Graph for each variant. `as_str` and `ALL` come from the same table, so
/// no variant can be left out of one of them.
macro_rules! spelled {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Returns the word as Graph spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];
        }
    };
}

pub(crate) use spelled;
