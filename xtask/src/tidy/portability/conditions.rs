//! The systems that `cfg` attributes select.

use syn::{Attribute, Expr, Lit, Meta, MetaNameValue, Token, punctuated::Punctuated};

/// The systems that compile a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Systems {
    /// Windows too.
    All,
    Unix,
    /// Every system but Unix.
    Others,
}

impl Systems {
    /// The systems of a part with these attributes, inside a part of `self`.
    pub(super) fn within(self, attributes: &[Attribute]) -> Self {
        let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
        for condition in conditions.filter_map(|attribute| attribute.parse_args().ok()) {
            if requires_unix(&condition) {
                return Self::Unix;
            }
            if excludes_unix(&condition) {
                return Self::Others;
            }
        }
        self
    }
}

fn requires_unix(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("unix"),
        Meta::NameValue(pair) => match (pair.path.get_ident().map(ToString::to_string), value(pair)) {
            (Some(name), Some(value)) => match name.as_str() {
                "target_family" => value == "unix",
                "target_os" => UNIX_SYSTEMS.contains(&value.as_str()),
                _ => false,
            },
            _ => false,
        },
        Meta::List(list) if list.path.is_ident("all") => parts(list).iter().any(requires_unix),
        Meta::List(list) if list.path.is_ident("any") => {
            let parts = parts(list);
            !parts.is_empty() && parts.iter().all(requires_unix)
        }
        Meta::List(_) => false,
    }
}

fn excludes_unix(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("windows"),
        Meta::NameValue(pair) => {
            (pair.path.is_ident("target_family") || pair.path.is_ident("target_os"))
                && value(pair).is_some_and(|value| value == "windows")
        }
        Meta::List(list) if list.path.is_ident("all") => parts(list).iter().any(excludes_unix),
        Meta::List(list) if list.path.is_ident("any") => {
            let parts = parts(list);
            !parts.is_empty() && parts.iter().all(excludes_unix)
        }
        Meta::List(list) if list.path.is_ident("not") => parts(list).iter().any(follows_from_unix),
        Meta::List(_) => false,
    }
}

/// True if the condition holds on every Unix.
fn follows_from_unix(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("unix"),
        Meta::NameValue(pair) => {
            pair.path.is_ident("target_family") && value(pair).is_some_and(|value| value == "unix")
        }
        Meta::List(list) if list.path.is_ident("any") => parts(list).iter().any(follows_from_unix),
        Meta::List(_) => false,
    }
}

fn parts(list: &syn::MetaList) -> Vec<Meta> {
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    parts.map(|parts| parts.into_iter().collect()).unwrap_or_default()
}

fn value(pair: &MetaNameValue) -> Option<String> {
    let Expr::Lit(literal) = &pair.value else { return None };
    let Lit::Str(text) = &literal.lit else { return None };
    Some(text.value())
}

const UNIX_SYSTEMS: [&str; 5] = ["android", "freebsd", "ios", "linux", "macos"];
