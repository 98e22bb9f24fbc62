//! The file as tables that note which settings were read. A setting that was not read is unknown. Every
//! problem has its path.

use std::{cell::RefCell, ops::RangeInclusive, rc::Rc, time::Duration};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    hint::hint,
    problems::{Problem, Problems, place_of},
    unit,
    written::Written,
};

/// A table, or the place of an absent one. Reading a setting returns `None` if it recorded a problem.
pub(super) struct Section<'t> {
    path: String,
    table: Option<&'t DeTable<'t>>,
    /// The value is not a table, which is a problem already: no setting counts as missing in it.
    is_wrong: bool,
    offset: usize,
    read: RefCell<Vec<&'static str>>,
    found: Rc<Found>,
}

/// A value and its place in the file.
pub(super) struct Setting<'t> {
    path: String,
    value: &'t DeValue<'t>,
    offset: usize,
    found: Rc<Found>,
}

/// The findings in the whole file.
#[derive(Default)]
struct Found {
    problems: RefCell<Vec<Problem>>,
    /// The paths and the values of the settings that the file does not write.
    defaults: RefCell<Vec<(String, Value)>>,
    /// The paths of the settings that the parser looked for.
    #[cfg(test)]
    looked_for: RefCell<std::collections::BTreeSet<String>>,
}

impl<'t> Section<'t> {
    /// The whole file.
    pub(super) fn root(table: &'t DeTable<'t>) -> Self {
        Self {
            path: String::new(),
            table: Some(table),
            is_wrong: false,
            offset: 0,
            read: RefCell::default(),
            found: Rc::default(),
        }
    }

    /// True if the file has the table.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Returns a setting that may be absent.
    pub(super) fn optional(&self, name: &'static str) -> Option<Setting<'t>> {
        self.read.borrow_mut().push(name);
        #[cfg(test)]
        self.found.looked_for.borrow_mut().insert(self.path_of(name));
        let (key, value) = self.table?.get_key_value(name)?;
        Some(Setting {
            path: self.path_of(name),
            value: value.get_ref(),
            offset: key.span().start,
            found: Rc::clone(&self.found),
        })
    }

    /// Returns a setting without a default. `right` says what would be right.
    pub(super) fn required(&self, name: &'static str, right: &str) -> Option<Setting<'t>> {
        let setting = self.optional(name);
        if setting.is_none() && !self.is_wrong {
            self.problem(name, format!("missing; it must be {right}"));
        }
        setting
    }

    /// Reads a setting with a default. `None` only if the setting has a problem.
    pub(super) fn or<T: Written>(
        &self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&Setting<'t>) -> Option<T>,
    ) -> Option<T> {
        let written = default.written();
        self.or_shown(name, (default, written), read)
    }

    /// Reads one of a few words, with a default among them. `None` only if the setting has a problem.
    pub(super) fn word_or<T: Copy + PartialEq>(
        &self,
        name: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> Option<T> {
        let written = words.iter().find(|(_, value)| *value == default).map(|(word, _)| *word);
        self.or_shown(name, (default, written.into()), |setting| setting.word(words))
    }

    /// Reads a size with a default. `None` only if the setting has a problem.
    pub(super) fn size_or(
        &self,
        name: &'static str,
        default: usize,
        read: impl FnOnce(&Setting<'t>) -> Option<usize>,
    ) -> Option<usize> {
        self.or_shown(name, (default, unit::show_size(default).into()), read)
    }

    /// Reads a list that is empty by default. `None` only if the setting has a problem.
    pub(super) fn or_empty<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Setting<'t>) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        self.or_shown(name, (Vec::new(), Value::Null), read)
    }

    /// Reads a setting with a default, and with the form in which the file would write it.
    fn or_shown<T>(
        &self,
        name: &'static str,
        (default, written): (T, Value),
        read: impl FnOnce(&Setting<'t>) -> Option<T>,
    ) -> Option<T> {
        match self.optional(name) {
            Some(setting) => read(&setting),
            None => {
                self.note_default(name, written);
                Some(default)
            }
        }
    }

    /// Notes the value that a setting has because the file does not write it.
    pub(super) fn note_default(&self, name: &str, written: Value) {
        self.found.defaults.borrow_mut().push((self.path_of(name), written));
    }

    /// Reads a setting that is absent by default. The outer `None` only if the setting has a problem.
    #[expect(clippy::option_option, reason = "an absent setting is not a wrong one")]
    pub(super) fn maybe<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Setting<'t>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.or_shown(name, (None, Value::Null), |setting| read(setting).map(Some))
    }

    /// Returns a table inside this one.
    pub(super) fn section(&self, name: &'static str) -> Self {
        match self.optional(name) {
            Some(setting) => setting.section(),
            None => Self {
                path: self.path_of(name),
                table: None,
                is_wrong: false,
                offset: self.offset,
                read: RefCell::default(),
                found: Rc::clone(&self.found),
            },
        }
    }

    /// Returns the tables of `[[name]]`; none if it is absent.
    pub(super) fn sections(&self, name: &'static str) -> Vec<Self> {
        let Some(setting) = self.optional(name) else {
            self.note_default(name, Value::Array(Vec::new()));
            return Vec::new();
        };
        let tables = setting.list(&format!("a list of tables, each under [[{}]]", setting.path));
        tables.unwrap_or_default().iter().map(Setting::section).collect()
    }

    /// Returns the tables of `[[name]]`, at least one. `right` says what would be right.
    pub(super) fn some_sections(&self, name: &'static str, right: &str) -> Option<Vec<Self>> {
        let before = self.found.problems.borrow().len();
        let sections = self.sections(name);
        if sections.is_empty() && !self.is_wrong && self.found.problems.borrow().len() == before {
            let problem = if self.optional(name).is_some() { "empty" } else { "missing" };
            self.problem(name, format!("{problem}; {right}"));
        }
        (!sections.is_empty()).then_some(sections)
    }

    /// Records a problem of the setting `name`, at its place if the file has it. `name` may be a path, like
    /// `fleet.instance[2].url`: then the place is that of the deepest part that the file has.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>) {
        let place = self.table.and_then(|table| place_of(table, name));
        let problem = Problem::new(self.path_of(name), message).at(place.unwrap_or(self.offset));
        self.found.problems.borrow_mut().push(problem);
    }

    /// True if the file has a recorded problem so far.
    pub(super) fn has_problems(&self) -> bool {
        !self.found.problems.borrow().is_empty()
    }

    /// Records the settings that were not read, each with the known one that it resembles, or with all known
    /// ones if it resembles none.
    pub(super) fn finish(self) {
        let read = self.read.borrow();
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            if read.contains(&name) {
                continue;
            }
            self.problem(name, format!("unknown setting{}", hint(name, &read)));
        }
    }

    /// Returns the paths and the values of the settings that the file does not write.
    pub(super) fn defaults(&self) -> Vec<(String, Value)> {
        self.found.defaults.take()
    }

    /// Returns the paths of the settings that the parser looked for.
    #[cfg(test)]
    pub(super) fn looked_for(&self) -> std::collections::BTreeSet<String> {
        self.found.looked_for.take()
    }

    /// Returns the problems of the whole file.
    pub(super) fn into_problems(self) -> Problems {
        let found = Rc::clone(&self.found);
        self.finish();
        Problems::in_order(found.problems.take())
    }

    fn path_of(&self, name: &str) -> String {
        // Of a file that any program may have written.
        let name: String = name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
        if self.path.is_empty() { name } else { format!("{}.{name}", self.path) }
    }
}

impl<'t> Setting<'t> {
    /// Records a problem of the setting.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.found.problems.borrow_mut().push(Problem::new(self.path.clone(), message).at(self.offset));
    }

    /// Reads text that `parse` accepts. Otherwise the problem is that it is not `right`.
    pub(super) fn parse<T>(&self, right: &str, parse: impl FnOnce(&'t str) -> Option<T>) -> Option<T> {
        self.check(self.value.as_str().and_then(parse), right)
    }

    /// The text of the value; `None` if it is not text.
    pub(super) fn written(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// Reads text that is not empty and has no control characters.
    pub(super) fn text(&self, right: &str) -> Option<&'t str> {
        self.parse(right, |text| (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text))
    }

    /// Reads one of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let right = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        self.parse(&right, |text| words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value))
    }

    /// True if the value is text, for a setting that may have another type, too.
    #[cfg(feature = "kubernetes")]
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.check(self.value.as_bool(), "true or false")
    }

    /// Reads a whole number in `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let right = format!("a whole number from {} to {}", range.start(), range.end());
        self.check(self.number().filter(|number| range.contains(number)), &right)
    }

    /// Reads one of a few numbers.
    pub(super) fn number_of<T: Copy>(&self, numbers: &[(u64, T)]) -> Option<T> {
        let right = numbers.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(" or ");
        let found = numbers.iter().find(|(number, _)| self.number() == Some(*number));
        self.check(found.map(|(_, value)| *value), &right)
    }

    /// Reads a number from 0 to 1.
    pub(super) fn fraction(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(_) => self.number().and_then(|number| match number {
                0 => Some(0.0),
                1 => Some(1.0),
                _ => None,
            }),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        self.check(number.filter(|number| (0.0..=1.0).contains(number)), "a number from 0.0 to 1.0")
    }

    /// Reads a duration with its unit, in `range`.
    pub(super) fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self
            .parse("a duration with its unit, like \"5s\", \"3500ms\", \"10m\" or \"1h\"", unit::duration)?;
        let right = format!("from {} to {}", unit::show(*range.start()), unit::show(*range.end()));
        self.check(range.contains(&duration).then_some(duration), &right)
    }

    /// Reads a size with its unit, in `range`.
    pub(super) fn size(&self, range: &RangeInclusive<usize>) -> Option<usize> {
        let size = self.parse("a size with its unit, like \"1MiB\", \"16KiB\" or \"512B\"", unit::size)?;
        let right = format!("from {} to {}", unit::show_size(*range.start()), unit::show_size(*range.end()));
        self.check(range.contains(&size).then_some(size), &right)
    }

    /// Returns the items of a list.
    pub(super) fn list(&self, right: &str) -> Option<Vec<Self>> {
        let items = self.check(self.value.as_array(), right)?;
        let item = |(index, value): (usize, &'t Spanned<DeValue<'t>>)| Self {
            path: format!("{}[{index}]", self.path),
            value: value.get_ref(),
            offset: value.span().start,
            found: Rc::clone(&self.found),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Reads each item of a list. `None` if an item has a problem.
    pub(super) fn each<T>(&self, right: &str, mut read: impl FnMut(&Self) -> Option<T>) -> Option<Vec<T>> {
        // Read every item, so that every problem is found.
        let items: Vec<_> = self.list(right)?.iter().map(&mut read).collect();
        items.into_iter().collect()
    }

    /// Returns the value as a table under a header of its own.
    pub(super) fn section(&self) -> Section<'t> {
        // A header in the file has no indices: that of `app[0].graph` is `[app.graph]`.
        let header: String =
            self.path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
        let header = if self.path.ends_with(']') { format!("[[{header}]]") } else { format!("[{header}]") };
        self.table(&format!("a table; write {header} and its settings below it"))
    }

    /// Returns the value as an inline table. `right` says what would be right.
    pub(super) fn table(&self, right: &str) -> Section<'t> {
        let table = self.check(self.value.as_table(), right);
        Section {
            path: self.path.clone(),
            table,
            is_wrong: table.is_none(),
            offset: self.offset,
            read: RefCell::default(),
            found: Rc::clone(&self.found),
        }
    }

    fn number(&self) -> Option<u64> {
        let integer = self.value.as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn check<T>(&self, value: Option<T>, right: &str) -> Option<T> {
        if value.is_none() {
            self.problem(format!("not {right}"));
        }
        value
    }
}

/// Longer than the path of any setting.
const NAME_CHARS_MAX: usize = 100;
