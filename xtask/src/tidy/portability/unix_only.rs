//! The paths and methods that other systems do not have.

/// True for a path of the standard library or of a crate that exists on Unix only.
pub(super) fn is_path(path: &[String]) -> bool {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["std", "os", system, ..] => !["raw", "windows"].contains(system),
        ["tokio", "signal" | "net" | "io", "unix", ..] => true,
        ["tokio", "net", name, ..] => name.starts_with("Unix"),
        // rustix has sockets on Windows. Its error codes are others there.
        ["rustix", module, ..] => *module != "net",
        ["libc" | "nix" | "signal_hook" | "signal_hook_tokio", _, ..] => true,
        _ => false,
    }
}

/// Methods of types that exist everywhere, without a trait to import.
pub(super) const METHODS: [&str; 3] = ["arg0", "pre_exec", "process_group"];

/// The methods of an extension trait; none for the name of anything else. Methods that other types have
/// too, like `as_bytes`, are left out.
pub(super) fn methods_of(name: &str) -> &'static [&'static str] {
    TRAITS.iter().find(|(known, _)| *known == name).map_or(&[], |(_, methods)| methods)
}

const TRAITS: [(&str, &[&str]); 12] = [
    ("AsFd", &["as_fd"]),
    ("AsRawFd", &["as_raw_fd"]),
    ("CommandExt", &["exec", "gid", "groups", "uid"]),
    ("DirBuilderExt", &["mode"]),
    ("DirEntryExt", &["ino"]),
    ("ExitStatusExt", &["continued", "core_dumped", "from_raw", "signal", "stopped_signal"]),
    ("FileExt", &["read_at", "read_exact_at", "write_all_at", "write_at"]),
    ("FileTypeExt", &["is_block_device", "is_char_device", "is_fifo", "is_socket"]),
    ("IntoRawFd", &["into_raw_fd"]),
    ("MetadataExt", &["blocks", "dev", "gid", "ino", "mode", "nlink", "rdev", "uid"]),
    ("OpenOptionsExt", &["custom_flags", "mode"]),
    ("PermissionsExt", &["from_mode", "mode", "set_mode"]),
];
