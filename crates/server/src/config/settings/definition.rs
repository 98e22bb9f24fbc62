//! `Definition`: the type, the default and the meaning of one setting, and `Table`, which has several.

use serde_json::Value;

/// The settings of one table.
#[derive(Debug)]
pub struct Table {
    /// The settings, in the order of the reference.
    pub settings: &'static [Definition],
    /// Sets of settings, exactly one of which is written. Empty if there is no such rule.
    pub one_of: &'static [&'static [&'static str]],
}

/// One setting.
#[derive(Debug)]
pub struct Definition {
    /// The name in its table.
    pub name: &'static str,
    /// The values that it may have.
    pub kind: ValueKind,
    /// The value without the setting.
    pub default: DefaultValue,
    /// The text of the reference about the values. `None` for that of the kind.
    pub range: Option<&'static str>,
    /// The text of the reference, in Markdown. Its links are relative to `docs/`.
    pub meaning: &'static str,
    /// The effect of a reload after the setting changed.
    pub on_reload: OnReload,
}

/// The values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// `true` or `false`.
    Switch,
    /// One of a few words.
    Words(&'static [&'static str]),
    /// One of a few numbers.
    Numbers(&'static [u64]),
    /// A whole number from the first to the second.
    Integer(u64, u64),
    /// A number from 0 to 1.
    Fraction,
    /// A number above 0, to 1.
    PositiveFraction,
    /// A duration from the first to the second, each with its unit.
    Duration(&'static str, &'static str),
    /// A duration from the first to below the second, each with its unit.
    DurationBelow(&'static str, &'static str),
    /// A size from the first to the second, each with its unit.
    Size(&'static str, &'static str),
    /// A GUID with dashes.
    Guid,
    /// An IP address and a port.
    Address,
    /// A text of another form.
    Shaped {
        /// A regular expression that every valid text matches, in the part that all dialects share.
        pattern: &'static str,
        /// The form, for the reference.
        shown: &'static str,
    },
    /// A value of either kind.
    Either(&'static Self, &'static Self),
    /// The source of a secret.
    Secret,
    /// A list of values, of at least so many.
    List(&'static Self, usize),
    /// A table that is written as a value, like `{ env = "NAME" }`.
    Inline(&'static Table),
    /// A list of one or more such tables. Each is known by the value of this setting.
    InlineList(&'static Table, &'static str),
    /// A table under a header of its own.
    Group(&'static Table),
    /// A list of tables, each under a header of its own: at least so many. Each is known by the value of the
    /// setting, or by its place.
    Groups(&'static Table, Option<&'static str>, usize),
}

/// The value of a setting that is not written.
#[derive(Clone, Copy, Debug)]
pub enum DefaultValue {
    /// None: the setting must be written in each table.
    Required,
    /// None, and other settings decide whether it must be written.
    Depends,
    /// None: the setting is optional. The text says what applies then.
    Absent(&'static str),
    /// `true` or `false`.
    On(bool),
    /// A whole number.
    Number(u64),
    /// A number from 0 to 1.
    Fractional(f64),
    /// A text.
    Text(&'static str),
    /// A list of texts.
    Texts(&'static [&'static str]),
    /// Computed from other settings: the value while these have their defaults, and the text of the
    /// reference.
    Usual(&'static Self, &'static str),
}

/// The effect of a reload after a setting changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReload {
    /// The new value applies.
    Applies,
    /// The reload is refused: the setting belongs to the process.
    NeedsRestart,
    /// The new value applies. A reload that adds or removes the setting is refused.
    PresenceNeedsRestart,
}

impl Table {
    pub(super) const fn new(settings: &'static [Definition]) -> Self {
        Self { settings, one_of: &[] }
    }

    pub(super) const fn one_of(self, one_of: &'static [&'static [&'static str]]) -> Self {
        Self { one_of, ..self }
    }

    /// Returns the setting of this name.
    pub fn setting(&self, name: &str) -> Option<&'static Definition> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

impl Definition {
    pub(super) const fn new(
        name: &'static str,
        kind: ValueKind,
        default: DefaultValue,
        meaning: &'static str,
    ) -> Self {
        Self { name, kind, default, range: None, meaning, on_reload: OnReload::Applies }
    }

    pub(super) const fn range(self, range: &'static str) -> Self {
        Self { range: Some(range), ..self }
    }

    pub(super) const fn on_reload(self, on_reload: OnReload) -> Self {
        Self { on_reload, ..self }
    }
}

impl ValueKind {
    /// Returns the table of the setting, or of its items.
    pub fn table(&self) -> Option<&'static Table> {
        match self {
            Self::Inline(table)
            | Self::InlineList(table, _)
            | Self::Group(table)
            | Self::Groups(table, ..) => Some(table),
            Self::Switch
            | Self::Words(_)
            | Self::Numbers(_)
            | Self::Integer(..)
            | Self::Fraction
            | Self::PositiveFraction
            | Self::Duration(..)
            | Self::DurationBelow(..)
            | Self::Size(..)
            | Self::Guid
            | Self::Address
            | Self::Shaped { .. }
            | Self::Either(..)
            | Self::Secret
            | Self::List(..) => None,
        }
    }
}

impl DefaultValue {
    /// Returns the value as the file writes it; `None` if there is none.
    pub fn value(&self) -> Option<Value> {
        match self {
            Self::Required | Self::Depends | Self::Absent(_) => None,
            Self::On(value) => Some(Value::from(*value)),
            Self::Number(value) => Some(Value::from(*value)),
            Self::Fractional(value) => Some(Value::from(*value)),
            Self::Text(value) => Some(Value::from(*value)),
            Self::Texts(values) => Some(Value::from(*values)),
            Self::Usual(value, _) => value.value(),
        }
    }
}
