//! A file that lists the instances: its settings, and the trait by which its owner reads and parses it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use switchboard_routing::Name;

use super::instance::InstanceSettings;

/// Instances listed in a file that another program replaces.
///
/// ```
/// use std::sync::Arc;
///
/// use switchboard_delivery::{
///     FileInstance, FileSettings, FleetFile, InstanceSettings, InvalidUpstreamUrl, ParsedFile, UpstreamUrl,
/// };
/// use switchboard_routing::Name;
///
/// /// A file with the URL of one instance in it.
/// #[derive(Debug)]
/// struct OneUrl(&'static str);
///
/// impl FleetFile for OneUrl {
///     fn read(&self) -> Result<Vec<u8>, String> {
///         std::fs::read(self.0).map_err(|error| error.to_string())
///     }
///
///     fn parse(&self, content: &[u8]) -> ParsedFile {
///         let text = String::from_utf8_lossy(content);
///         let name = Name::parse("bot-0").expect("a name");
///         let instance = |url| {
///             let settings = InstanceSettings { name, url, callback_url: None, apps: None, weight: 1 };
///             FileInstance { settings, incarnation: None, is_draining: false }
///         };
///         let url = UpstreamUrl::parse(text.trim()).map_err(|error: InvalidUpstreamUrl| error.to_string());
///         ParsedFile { instances: url.map(|url| vec![instance(url)]), named: Vec::new() }
///     }
///
///     fn digest(&self, _: &std::path::Path) -> [u8; 32] {
///         [0; 32]
///     }
/// }
///
/// let path = "/run/bot/url";
/// let file = FileSettings { path: path.into(), file: Arc::new(OneUrl(path)) };
/// # let _ = file;
/// ```
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// The path, for the log and the store.
    pub path: PathBuf,
    /// The file itself.
    pub file: Arc<dyn FleetFile>,
}

impl PartialEq for FileSettings {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for FileSettings {}

/// The file of a fleet. It is read every two seconds, on a thread for blocking work.
pub trait FleetFile: fmt::Debug + Send + Sync {
    /// Reads the content, of a bounded size and within a bounded time.
    ///
    /// # Errors
    ///
    /// The file cannot be read; the text says why.
    fn read(&self) -> Result<Vec<u8>, String>;

    /// Parses the content, if it is another one than before, or if a file that it names has changed. It may
    /// wait for these files, for a bounded time.
    fn parse(&self, content: &[u8]) -> ParsedFile;

    /// Reads a file that the content names, within a bounded time. Returns the digest that
    /// [`parse`](Self::parse) would return.
    fn digest(&self, path: &Path) -> [u8; 32];
}

/// The parsed content of a fleet file.
#[derive(Clone, Debug)]
pub struct ParsedFile {
    /// The instances, with distinct names. If the content is not a list of instances, or a file that it names
    /// is not usable, the error says where and what would be right.
    pub instances: Result<Vec<FileInstance>, String>,
    /// The files that the content names and that were read, such as certificate authorities. Each with a
    /// digest of its content, or of the error of reading it.
    pub named: Vec<(PathBuf, [u8; 32])>,
}

/// One instance of a fleet file.
#[derive(Clone, Debug)]
pub struct FileInstance {
    /// The same as of a listed instance.
    pub settings: InstanceSettings,
    /// The incarnation of its process; `None` if only its probe knows it.
    pub incarnation: Option<Name>,
    /// True if it takes no new calls.
    pub is_draining: bool,
}
