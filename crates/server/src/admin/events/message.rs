//! The format of server-sent events (HTML standard, section 9.2).

/// Appends an event. `data` is JSON in one line.
pub(super) fn push_event(out: &mut Vec<u8>, name: &str, id: Option<&str>, data: &[u8]) {
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// Returns a comment, which clients ignore. `id` becomes the last event id of the client.
pub(super) fn comment(id: Option<&str>) -> Vec<u8> {
    match id {
        Some(id) => format!(":\nid: {id}\n\n").into_bytes(),
        None => b":\n\n".to_vec(),
    }
}
