//! The tables of the reference page, `docs/configuration.md`. Its other text is written by hand.

use super::{
    DefaultValue::{Absent, Depends, Fractional, Number, On, Required, Text, Texts, Usual},
    Definition, OnReload, SETTINGS, Table,
    ValueKind::{self, *},
};

/// Returns the page with the tables of the settings. The comment before a table names its paths, and its
/// header says which columns it has.
pub(super) fn page(current: &str) -> String {
    let mut page = String::new();
    let mut lines = current.lines().peekable();
    while let Some(line) = lines.next() {
        page.push_str(line);
        page.push('\n');
        let Some(paths) = marker(line) else { continue };
        let [blank, header, rule] = [(); 3].map(|()| lines.next().unwrap_or_default());
        assert_eq!(blank, "", "no empty line after {line}");
        page.push_str(&format!("\n{header}\n{rule}\n"));
        while lines.next_if(|line| line.starts_with('|')).is_some() {}
        let has_range = header.contains("| range |");
        for row in rows(&paths, has_range) {
            page.push_str(&row);
            page.push('\n');
        }
    }
    page
}

/// Returns the paths of the tables that the page shows.
pub(super) fn shown(page: &str) -> Vec<&str> {
    page.lines().filter_map(marker).flatten().collect()
}

/// Returns the sentence of the page about reloads.
pub(super) fn on_reload() -> String {
    let (mut fixed, mut presence) = (Vec::new(), Vec::new());
    super::tests::visit(&SETTINGS, "", &mut |path, setting| match setting.on_reload {
        OnReload::Applies => {}
        OnReload::NeedsRestart => fixed.push(format!("`{path}`")),
        OnReload::PresenceNeedsRestart => presence.push(format!("`{path}`")),
    });
    let (fixed, presence) = (fixed.join(", "), presence.join(", "));
    format!("Everything except {fixed}, and the presence of {presence}: these need a restart.")
}

/// Returns the text about the values of a setting; `None` if its meaning says all.
pub(super) fn range(setting: &Definition) -> Option<String> {
    setting.range.map(str::to_owned).or_else(|| range_of(&setting.kind))
}

fn marker(line: &str) -> Option<Vec<&str>> {
    let paths = line.strip_prefix("<!-- settings: ")?.strip_suffix(" -->")?;
    Some(paths.split(' ').collect())
}

/// Returns the rows of one table of the page. The names are relative to the first path.
fn rows(paths: &[&str], has_range: bool) -> Vec<String> {
    let first = paths.first().unwrap();
    let row = |path: &str, setting: &Definition| {
        let relative = path.strip_prefix(first).unwrap().trim_start_matches('.');
        let name = if relative.is_empty() { String::new() } else { format!("{relative}.") };
        let default = default(&setting.default);
        let range =
            if has_range { format!(" {} |", range(setting).unwrap_or_default()) } else { String::new() };
        format!("| `{name}{}` | {default} |{range} {} |", setting.name, setting.meaning)
    };
    let of_path = |path: &&str| {
        let settings = if *path == "top-level" { &SETTINGS } else { table(path) };
        let path = if *path == "top-level" { first } else { *path };
        let is_row = |setting: &&Definition| !matches!(setting.kind, Group(_) | Groups(..));
        settings.settings.iter().filter(is_row).map(|setting| row(path, setting)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn table(path: &str) -> &'static Table {
    path.split('.').fold(&SETTINGS, |table, name| {
        let setting = table.setting(name);
        setting.and_then(|setting| setting.kind.table()).unwrap_or_else(|| panic!("no table {path}"))
    })
}

fn default(default: &super::DefaultValue) -> String {
    match default {
        Required | Depends => "–".to_owned(),
        Absent(text) | Usual(_, text) => (*text).to_owned(),
        On(_) | Number(_) | Fractional(_) | Text(_) | Texts(_) => {
            let value = default.value().unwrap();
            format!("`{value}`")
        }
    }
}

fn range_of(kind: &ValueKind) -> Option<String> {
    let code = |text: &dyn ToString| format!("`{}`", text.to_string());
    Some(match kind {
        Switch => "`true`, `false`".to_owned(),
        Words(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Numbers(numbers) => numbers.iter().map(|number| code(number)).collect::<Vec<_>>().join(", "),
        Integer(from, to) => format!("{from} to {to}"),
        Fraction => "0.0 to 1.0".to_owned(),
        PositiveFraction => "above 0.0, to 1.0".to_owned(),
        Duration(from, to) | Size(from, to) => format!("`{from}` to `{to}`"),
        DurationBelow(from, limit) => format!("`{from}` to below `{limit}`"),
        Guid => "a GUID".to_owned(),
        Address => "IP address and port".to_owned(),
        Shaped { pattern: _, shown } => (*shown).to_owned(),
        Either(one, other) => format!("{}, {}", range_of(one)?, range_of(other)?),
        Secret => "`{ env = \"NAME\" }` or `{ file = \"path\" }`".to_owned(),
        List(..) | Inline(_) | InlineList(..) | Group(_) | Groups(..) => return None,
    })
}
