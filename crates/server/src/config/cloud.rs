//! `cloud` and `skype_metadata`: the clouds of Microsoft, and the trusts that are built in for each.

use ::url::Url;
use switchboard_auth::TrustSettings;
use uuid::Uuid;

use super::{
    model::Trust,
    section::{Section, Setting},
    url,
};

/// A cloud in which the calling platform runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    /// The public cloud, and GCC.
    Public,
    /// US Government L4.
    GccHigh,
    /// US Government L5.
    Dod,
    /// The cloud that 21Vianet runs in China.
    China,
}

impl Cloud {
    /// Reads `cloud`.
    pub(super) fn read(root: &Section<'_>) -> Option<Self> {
        let words = Self::ALL.map(|cloud| (cloud.name(), cloud));
        root.word_or("cloud", Self::Public, &words)
    }

    /// The name in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::GccHigh => "gcc-high",
            Self::Dod => "dod",
            Self::China => "china",
        }
    }

    /// Returns the two trusts of the cloud: the issuer that signs the platform's tokens today, and Entra,
    /// which Microsoft's documents announce. Reads `skype_metadata`.
    pub(super) fn trusts(self, root: &Section<'_>) -> Option<Vec<Trust>> {
        let (skype_issuers, entra_login, entra_v1) = match self {
            Self::Public => (
                &["https://graph.microsoft.com"][..],
                "https://login.microsoftonline.com",
                &["https://sts.windows.net/{tid}/"][..],
            ),
            Self::GccHigh | Self::Dod => (
                &["https://api.botframework.us"][..],
                "https://login.microsoftonline.us",
                &["https://sts.windows.net/{tid}/", "https://login.microsoftonline.us/{tid}/"][..],
            ),
            Self::China => (
                &["https://api.botframework.azure.cn"][..],
                "https://login.partner.microsoftonline.cn",
                &["https://sts.chinacloudapi.cn/{tid}/"][..],
            ),
        };
        let callers = match self {
            Self::Public | Self::China => vec![CALLING_SERVICE],
            Self::GccHigh | Self::Dod => vec![CALLING_SERVICE_GOVERNMENT, CALLING_SERVICE],
        };
        let trust = |name: &str, metadata: Url, issuers: Vec<String>| Trust {
            settings: TrustSettings {
                name: name.to_owned(),
                metadata,
                issuers,
                callers: callers.clone(),
                ca_digest: None,
            },
            ca: None,
        };
        let skype = SKYPE_ISSUERS.iter().chain(skype_issuers).map(|issuer| (*issuer).to_owned()).collect();
        let entra = entra_v1.iter().map(|issuer| (*issuer).to_owned());
        let entra = entra.chain([format!("{entra_login}/{{tid}}/v2.0")]).collect();
        let entra_metadata = format!("{entra_login}/common/v2.0/.well-known/openid-configuration");
        Some(vec![
            trust("skype", self.skype_metadata(root)?, skype),
            trust("entra", parse(&entra_metadata), entra),
        ])
    }

    /// Returns the address of the metadata of the platform's own issuer. Microsoft publishes none for the
    /// clouds of the US Government.
    fn skype_metadata(self, root: &Section<'_>) -> Option<Url> {
        let built_in = match self {
            Self::Public => Some(SKYPE_METADATA),
            Self::China => Some("https://pma.teams.microsoftonline.cn/v1/.well-known/openid-configuration"),
            Self::GccHigh | Self::Dod => None,
        };
        match (root.optional(NAME), built_in) {
            (Some(setting), _) => url::secure(&setting, METADATA_LIKE),
            (None, Some(built_in)) => Some(parse(built_in)),
            (None, None) => {
                root.problem(
                    NAME,
                    format!(
                        "missing; Microsoft does not publish the address of the keys of \"{}\": write the \
                         URL that Microsoft gave you, or [[trust]]",
                        self.name()
                    ),
                );
                None
            }
        }
    }

    const ALL: [Self; 4] = [Self::Public, Self::GccHigh, Self::Dod, Self::China];
}

/// Refuses `skype_metadata` beside a written `[[trust]]`, where it would have no effect.
pub(super) fn refuse_skype_metadata(root: &Section<'_>) {
    if let Some(setting) = root.optional(NAME) {
        Setting::problem(
            &setting,
            "has no effect beside [[trust]]; write it as the `metadata` of a [[trust]]",
        );
    }
}

/// Parses a URL of this file.
fn parse(url: &str) -> Url {
    Url::parse(url).expect("the metadata URLs of this file are URLs")
}

const NAME: &str = "skype_metadata";

/// No address of a real issuer: an operator must not copy that of another cloud.
const METADATA_LIKE: &str = "https://keys.example/.well-known/openid-configuration";

/// The metadata of the platform's own issuer in the public cloud.
pub(super) const SKYPE_METADATA: &str = "https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration";

/// The names of the platform's own issuer in every cloud.
const SKYPE_ISSUERS: [&str; 2] = ["https://api.botframework.com", "https://api.botframework.com/"];

/// The app id of "Skype Teams Calling API Service", the same in every tenant (Microsoft Entra: first-party
/// applications).
pub(super) const CALLING_SERVICE: Uuid = Uuid::from_u128(0x26a1_8ebc_cdf7_4a6a_91cb_beb3_5280_5e81);

/// The app id of the calling service of the US Government, which Microsoft's calling SDK accepts there.
const CALLING_SERVICE_GOVERNMENT: Uuid = Uuid::from_u128(0xe736_143e_5e30_4821_9609_0b03_2986_a3a3);
