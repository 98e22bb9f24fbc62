//! The names under which callback URIs know a pod: that of its instance, and that of its incarnation.

use switchboard_routing::Name;
use uuid::Uuid;

use super::source::instance_name;

/// Returns the name of the instance in the pod of this `metadata.name`.
///
/// A name of up to 63 characters stays as it is. The end of a longer one is replaced by a hash.
pub fn pod_instance(name: &str) -> Name {
    instance_name(name)
}

/// Returns the incarnation of the pod of this `metadata.uid`: its start, `0b1e3f5c-7a2d`. `None` if it is not
/// a UUID.
///
/// A whole uid would cost 36 of the 250 characters of a callback URI. Two incarnations of one pod name share
/// this part once in 2^48.
pub fn pod_incarnation(uid: &str) -> Option<Name> {
    let mut buffer = Uuid::encode_buffer();
    let uid: &str = Uuid::try_parse(uid).ok()?.hyphenated().encode_lower(&mut buffer);
    Name::parse(uid.get(..INCARNATION_CHARS)?).ok()
}

/// Two groups of a uid, and the dash between them.
const INCARNATION_CHARS: usize = 13;
