//! A value that an option, an environment variable or a default gives, with its source.

use std::ffi::OsStr;

use clap::{Arg, Command, Error, builder::TypedValueParser, error::ErrorKind, parser::ValueSource};

/// A value, and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// The source.
    pub by: GivenBy,
}

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBy {
    /// An option of the command line.
    Option,
    /// An environment variable.
    Variable,
    /// The default.
    Default,
}

/// Parses a value and notes its source. Its errors name the variable if the value is from there.
#[derive(Clone, Debug)]
pub(super) struct GivenParser<T>(pub(super) fn(&OsStr) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for GivenParser<T> {
    type Value = Given<T>;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Given<T>, Error> {
        self.parse_ref_(command, arg, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Given<T>, Error> {
        let (value, by) = if source == ValueSource::DefaultValue {
            (value, GivenBy::Default)
        } else if source != ValueSource::EnvVariable {
            (value, GivenBy::Option)
        } else if let (true, [default]) = (value.is_empty(), arg.map_or(&[][..], Arg::get_default_values)) {
            // Service managers and compose files set a variable to nothing where they mean to leave it out.
            (default.as_os_str(), GivenBy::Default)
        } else {
            (value, GivenBy::Variable)
        };
        (self.0)(value).map(|value| Given { value, by }).map_err(|problem| {
            let place = match (by, arg) {
                (GivenBy::Variable, Some(arg)) => {
                    format!("the variable {}", arg.get_env().unwrap_or_default().to_string_lossy())
                }
                (_, Some(arg)) => format!("'{arg}'"),
                (_, None) => "an argument".to_owned(),
            };
            let value = value.to_string_lossy();
            let message = format!("invalid value '{}' for {place}: {problem}", value.escape_debug());
            Error::raw(ErrorKind::ValueValidation, message).format(&mut command.clone())
        })
    }
}
