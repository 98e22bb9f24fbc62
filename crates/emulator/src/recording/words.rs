//! The words of the protocol that a recording keeps.

/// Returns true if a member holds a word of the protocol, like `state` or `region`.
pub(super) fn is_word_member(name: &str) -> bool {
    WORD_MEMBERS.iter().any(|member| member.eq_ignore_ascii_case(name))
}

/// Returns true if a member holds a short number, as a number or as text.
pub(super) fn is_number_member(name: &str) -> bool {
    NUMBER_MEMBERS.iter().any(|member| member.eq_ignore_ascii_case(name))
}

/// Returns true if a member holds a secret, whatever its value is.
pub(super) fn is_secret_member(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| lower.contains(part))
}

/// Returns true for a segment of a resource path that is not an id.
pub(super) fn is_path_word(segment: &str) -> bool {
    PATH_WORDS.iter().any(|word| word.eq_ignore_ascii_case(segment))
}

/// Returns true for a word in front of an id, as in `8:orgid:…`.
pub(super) fn is_id_prefix(part: &str) -> bool {
    ID_PREFIXES.iter().any(|prefix| prefix.eq_ignore_ascii_case(part))
}

/// Members whose value is a word: an enum, a region, a country, a language.
const WORD_MEMBERS: [&str; 40] = [
    "acceptedModalities",
    "activeModalities",
    "audioRoutingGroups",
    "callState",
    "changeType",
    "clientLocation",
    "countryCode",
    "direction",
    "disposition",
    "dtmf",
    "endpointType",
    "eventType",
    "identityProvider",
    "inviteReasons",
    "languageId",
    "mediaHostedRegion",
    "mediaType",
    "modalities",
    "participationMethod",
    "platform",
    "presentedModalityTypes",
    "reason",
    "recordingStatus",
    "region",
    "removedReason",
    "requestedModalities",
    "role",
    "routingMode",
    "routingPolicies",
    "routingType",
    "screenSharingRole",
    "spokenLanguage",
    "state",
    "status",
    "terminationReason",
    "tone",
    "tones",
    "type",
    "initiator",
    "modality",
];

/// Members whose value is a short number.
const NUMBER_MEMBERS: [&str; 9] = [
    "code",
    "messageId",
    "rosterSequenceNumber",
    "sequenceId",
    "sequenceNumber",
    "sourceId",
    "subcode",
    "threadMessageId",
    "timeout",
];

/// Parts of the names of members that hold secrets: tokens, blobs, passcodes, encrypted ids.
const SECRET_PARTS: [&str; 12] = [
    "token",
    "blob",
    "secret",
    "password",
    "passcode",
    "authorization",
    "credential",
    "cookie",
    "encrypted",
    "signature",
    "apikey",
    "sdp",
];

const PATH_WORDS: [&str; 16] = [
    "app",
    "communications",
    "calls",
    "participants",
    "operations",
    "audioRoutingGroups",
    "contentSharingSessions",
    "onlineMeetings",
    "callRecords",
    "sessions",
    "recordings",
    "answer",
    "v1.0",
    "beta",
    "users",
    "me",
];

const ID_PREFIXES: [&str; 9] =
    ["orgid", "acs", "spool", "gcch-acs", "dod-acs", "live", "teamsvisitor", "sip", "bot"];
