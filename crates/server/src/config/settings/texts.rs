//! The forms of texts in a configuration. Their patterns accept every text that the parser accepts, and some
//! that only the parser refuses: an editor must not mark a valid setting.

use super::definition::ValueKind::{self, Either, Guid, Integer, Shaped, Words};

/// A text that is not empty.
pub(super) const TEXT: ValueKind = Shaped { pattern: ".", shown: "a text" };

/// The name of a region or an instance.
pub(super) const NAME: ValueKind = Shaped { pattern: "^[A-Za-z0-9._-]{1,63}$", shown: "a name" };

/// The name of a trust or a seal key.
pub(super) const KEY_NAME: ValueKind =
    Shaped { pattern: "^[A-Za-z0-9_-]{1,63}$", shown: "1 to 63 of `A-Z a-z 0-9 _ -`" };

/// The name of an object of Kubernetes.
pub(super) const LABEL: ValueKind = Shaped { pattern: "^[a-z0-9.-]{1,253}$", shown: "a name" };

/// `"*"` or the id of a tenant.
pub(super) const TENANT: ValueKind = Either(&Words(&["*"]), &Guid);

/// https, or http on loopback.
pub(super) const SECURE_URL: ValueKind =
    Shaped { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://[^/]", shown: "https URL" };

/// http is allowed with any host.
pub(super) const URL: ValueKind =
    Shaped { pattern: "^[Hh][Tt][Tt][Pp][Ss]?://[^/]", shown: "http or https URL" };

pub(super) const ISSUER: ValueKind = Shaped { pattern: "^https?://", shown: "an issuer" };

/// A path of the gateway.
pub(super) const GATEWAY_PATH: ValueKind =
    Shaped { pattern: "^(/[A-Za-z0-9._~-]+)+$", shown: "at most 100 of `A-Z a-z 0-9 - . _ ~ /`" };

/// A path of instances.
pub(super) const TARGET_PATH: ValueKind = Shaped { pattern: "^/", shown: "a path" };

pub(super) const FILE: ValueKind = Shaped { pattern: ".", shown: "path" };

/// The file of `[fleet.file]`.
pub(super) const LIST_FILE: ValueKind =
    Shaped { pattern: "\\.(json|toml)$", shown: "a path that ends in `.json` or `.toml`" };

/// A network or an address.
pub(super) const NETWORK: ValueKind = Shaped { pattern: "^[0-9A-Fa-f.:/]+$", shown: "a network" };

pub(super) const DNS_NAME: ValueKind = Shaped { pattern: "^[A-Za-z0-9._-]+$", shown: "a DNS name" };

/// The port of a pod.
pub(super) const POD_PORT: ValueKind = Either(&Integer(1, 65_535), &LABEL);

pub(super) const FULL: ValueKind = Either(&Words(&["refuse", "reject"]), &OVERFLOW);

const OVERFLOW: ValueKind =
    Shaped { pattern: "^overflow:[A-Za-z0-9._-]{1,63}$", shown: "`\"overflow:REGION\"`" };
