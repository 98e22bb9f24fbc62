//! Secrets: read from the environment or a file, never written in the configuration, never shown.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{file_time::within_limit, section::Setting};

/// Bytes that must not reach a log. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The bytes, for the code that uses the secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The environment of a configuration: its folder and its variables.
pub(super) struct Surroundings<'s> {
    /// The folder of the configuration, at which relative paths start.
    pub(super) folder: &'s Path,
    /// Looks up an environment variable.
    pub(super) env: &'s dyn Fn(&str) -> Option<String>,
    /// True to read no variable and no file that the configuration names: it is checked where they do not
    /// exist. Placeholders take the place of the secrets.
    pub(super) without_secrets: bool,
}

impl Surroundings<'_> {
    /// Reads a path, relative to the folder. `right` says what would be right.
    pub(super) fn path(&self, setting: &Setting<'_>, right: &str) -> Option<PathBuf> {
        setting.text(right).map(|path| self.folder.join(path))
    }

    /// Reads the file that a setting names.
    pub(super) fn read(&self, setting: &Setting<'_>) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path(setting, "the path of a file")?;
        match read_bounded(&path, FILE_BYTES_MAX) {
            Ok(bytes) if is_utf16(&bytes) => {
                setting.problem(format!("{} is {UTF_16}", shown(&path)));
                None
            }
            Ok(bytes) => Some((path, bytes)),
            Err(reason) => {
                setting.problem(format!("{} cannot be read: {reason}", shown(&path)));
                None
            }
        }
    }

    /// Reads a secret from `{ env = "NAME" }` or `{ file = "path" }`. The newline at the end of a file and
    /// the byte order mark at its start are dropped.
    pub(super) fn secret(&self, setting: &Setting<'_>) -> Option<Secret> {
        let section = setting.table(SECRET);
        if !section.is_present() {
            return None;
        }
        let env = section.optional("env");
        let file = section.optional("file");
        section.finish();
        match (env, file) {
            (Some(env), None) => {
                let name = env.text("the name of an environment variable")?;
                if self.without_secrets {
                    return Some(Secret(PLACEHOLDER.into()));
                }
                let value = (self.env)(name);
                if value.is_none() {
                    env.problem(format!("the environment has no variable {name}, or it is not valid text"));
                }
                value.map(|value| Secret(value.into_bytes().into()))
            }
            (None, Some(file)) => {
                if self.without_secrets {
                    self.path(&file, "the path of a file")?;
                    return Some(Secret(PLACEHOLDER.into()));
                }
                let (_, bytes) = self.read(&file)?;
                let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
                let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                Some(Secret(bytes.strip_suffix(b"\r").unwrap_or(bytes).into()))
            }
            (Some(_), Some(_)) | (None, None) => {
                setting.problem("not exactly one of { env = \"NAME\" } and { file = \"path\" }");
                None
            }
        }
    }

    /// Reads a secret of at least `bytes_min` bytes, in base64.
    pub(super) fn base64_secret(&self, setting: &Setting<'_>, bytes_min: usize) -> Option<Secret> {
        let secret = self.secret(setting)?;
        match decode(secret.expose()) {
            Some(bytes) if bytes.len() >= bytes_min => Some(Secret(bytes.into())),
            Some(bytes) => {
                let length = bytes.len();
                setting.problem(format!(
                    "{length} bytes; at least {bytes_min} are required: `switchboard keygen` makes a secret"
                ));
                None
            }
            None => {
                setting.problem("not base64; `switchboard keygen` makes a secret");
                None
            }
        }
    }
}

/// Reads a file of at most `bytes_max` bytes, within a time limit. A device or a pipe without an end is
/// refused, too.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let read = move |path: &Path| bounded(File::open(path).map_err(|error| error.to_string())?, bytes_max);
    within_limit(path, read).unwrap_or_else(|hangs| Err(hangs.to_string()))
}

/// Reads `source` to its end, if it has at most `bytes_max` bytes.
pub(crate) fn bounded(source: impl Read, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    source.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max) {
        Ok(bytes)
    } else {
        Err(format!("larger than {bytes_max} bytes"))
    }
}

/// True for text in UTF-16, of either byte order: it starts with a byte order mark, or with an ASCII
/// character of two bytes.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [0, other, ..] | [other, 0, ..] => other.is_ascii_graphic() || other.is_ascii_whitespace(),
        _ => false,
    }
}

/// A path for a message. Control characters are escaped: a terminal would execute them.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// Decodes base64 in either alphabet, with padding or without (RFC 4648 sections 4 and 5).
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = text.get(..text.len() - padding)?;
    if padding > 2 || padding > 0 && !text.len().is_multiple_of(4) || digits.len() % 4 == 1 {
        return None;
    }
    let mut standard = String::with_capacity(text.len() + 3);
    for byte in digits {
        standard.push(match byte {
            b'-' => '+',
            b'_' => '/',
            b'+' | b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(*byte),
            _ => return None,
        });
    }
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    openssl::base64::decode_block(&standard).ok()
}

/// The notation of a secret.
pub(super) const SECRET: &str =
    "{ env = \"NAME\" } or { file = \"path\" }; the configuration never holds the secret itself";

/// The end of a message about a file in UTF-16.
pub(super) const UTF_16: &str =
    "UTF-16, which `>` of Windows PowerShell writes; save it as UTF-8, like `| Set-Content -Encoding utf8`";

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The value of every secret that is not read. It is valid as a token and, as base64 of 33 bytes, as a seal.
const PLACEHOLDER: &[u8] = b"notreadnotreadnotreadnotreadnotreadnotreadno";

/// The largest file. A certificate chain and a key have a few KiB, a bundle of all public roots about 200
/// KiB.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_either_alphabet_with_padding_or_without() {
        let bytes: Vec<u8> = (0..64).map(|n: u8| n.wrapping_mul(37) ^ 0xfb).collect();
        for length in [32, 33, 34, 64] {
            let bytes = &bytes[..length];
            let standard = openssl::base64::encode_block(bytes);
            let url = standard.replace('+', "-").replace('/', "_");
            for text in [
                &standard,
                &url,
                standard.trim_end_matches('='),
                url.trim_end_matches('='),
                &format!(" {url}\n"),
            ] {
                assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes), "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["a", "ab=", "abc==", "ab===", "abcd=", "====", "ab\ncd", "ab cd", "abc\u{e4}", "ab=c"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(decode(b""), Some(Vec::new()));
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret(b"top".as_slice().into())), "Secret");
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let error = read_bounded(Path::new("/dev/zero"), 1024).unwrap_err();
        assert_eq!(error, "larger than 1024 bytes");
    }
}
