//! The settings of one instance.

use switchboard_routing::Name;
use uuid::Uuid;

use crate::upstream_url::UpstreamUrl;

/// One instance of the static list.
///
/// ```
/// use switchboard_delivery::{InstanceSettings, UpstreamUrl};
/// use switchboard_routing::Name;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let instance = InstanceSettings {
///     name: Name::parse("bot-0")?,
///     url: UpstreamUrl::parse("http://10.0.0.10:3978/api/calls")?,
///     callback_url: None,
///     apps: None,
///     weight: 1,
/// };
/// # let _ = instance;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InstanceSettings {
    /// The name of the instance.
    pub name: Name,
    /// The URL for new calls, http or https; `{app}` stands for the app id.
    pub url: UpstreamUrl,
    /// The URL for callbacks; `url` if `None`.
    pub callback_url: Option<UpstreamUrl>,
    /// The apps that the instance serves; all if `None`.
    pub apps: Option<Vec<Uuid>>,
    /// The share of calls relative to other instances, at least 1.
    pub weight: u32,
}
