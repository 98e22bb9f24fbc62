//! Keys as the DevTools protocol describes them.

use serde_json::{Value, json};

use crate::error::BrowserError;

/// The events of pressing and releasing `key`, such as `a`, `Enter`, `Shift+Tab` or `Control+a`.
pub(crate) fn events(key: &str) -> Result<[Value; 2], BrowserError> {
    let (modifiers, name) = match key.rsplit_once('+') {
        Some((modifiers, name)) if !name.is_empty() => (modifiers, name),
        _ => ("", key),
    };
    let mut mask = 0;
    for modifier in modifiers.split('+').filter(|modifier| !modifier.is_empty()) {
        let known = MODIFIERS.iter().find(|(name, _)| *name == modifier);
        mask |= known.ok_or_else(|| BrowserError(format!("unknown modifier {modifier} of {key}")))?.1;
    }
    let mut characters = name.chars();
    let (code, text) = match (characters.next(), characters.next()) {
        // The codes of other characters are those of keys that type nothing: 46 is `.`, and the key Delete.
        (Some(character), None) if character.is_ascii_alphanumeric() => {
            (u32::from(character.to_ascii_uppercase()), name)
        }
        (Some(_), None) => (0, name),
        _ => {
            let known = NAMED.iter().find(|(known, ..)| *known == name);
            let (_, code, text) = known.ok_or_else(|| BrowserError(format!("unknown key {key}")))?;
            (*code, *text)
        }
    };
    // With Control, Alt or Meta a key is a command and types nothing.
    let text = if mask & !SHIFT == 0 { text } else { "" };
    let name = if name == "Space" { " " } else { name };
    let event = |kind: &str, text: &str| {
        json!({
            "type": kind,
            "key": name,
            "windowsVirtualKeyCode": code,
            "modifiers": mask,
            "text": text,
        })
    };
    Ok([event(if text.is_empty() { "rawKeyDown" } else { "keyDown" }, text), event("keyUp", "")])
}

const SHIFT: u32 = 8;
const MODIFIERS: [(&str, u32); 4] = [("Alt", 1), ("Control", 2), ("Meta", 4), ("Shift", SHIFT)];

/// The name of a key, its code on Windows, and the text that it types.
const NAMED: [(&str, u32, &str); 14] = [
    ("Backspace", 8, ""),
    ("Tab", 9, ""),
    ("Enter", 13, "\r"),
    ("Escape", 27, ""),
    ("Space", 32, " "),
    ("PageUp", 33, ""),
    ("PageDown", 34, ""),
    ("End", 35, ""),
    ("Home", 36, ""),
    ("ArrowLeft", 37, ""),
    ("ArrowUp", 38, ""),
    ("ArrowRight", 39, ""),
    ("ArrowDown", 40, ""),
    ("Delete", 46, ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names_codes_modifiers_and_text() {
        for (key, name, code, modifiers, text) in [
            ("a", "a", 65, 0, "a"),
            ("+", "+", 0, 0, "+"),
            ("Enter", "Enter", 13, 0, "\r"),
            ("Space", " ", 32, 0, " "),
            ("Shift+Tab", "Tab", 9, 8, ""),
            ("Control+Shift+a", "a", 65, 10, ""),
        ] {
            let [down, up] = events(key).unwrap();
            assert_eq!(down["key"], name, "{key}");
            assert_eq!(down["windowsVirtualKeyCode"], code, "{key}");
            assert_eq!(down["modifiers"], modifiers, "{key}");
            assert_eq!(down["text"], text, "{key}");
            assert_eq!(down["type"], if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "{key}");
            assert_eq!(up["type"], "keyUp", "{key}");
        }
        for key in ["Entr", "Hyper+a", ""] {
            assert!(events(key).is_err(), "{key}");
        }
    }
}
