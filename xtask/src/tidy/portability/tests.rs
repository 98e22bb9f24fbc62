//! Files that every system compiles, and files that only Unix does.

use crate::tidy::tests::check;

/// Checks a file of a crate with the body `code`; `expected` has the findings without their path.
#[track_caller]
fn check_code(code: &str, expected: &[&str]) {
    let text = format!("//! A.\n{code}\n");
    let expected: Vec<_> = expected.iter().map(|line| format!("crates/a/src/b.rs:{line}")).collect();
    check(&[("crates/a/src/b.rs", &text)], &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

fn path(line: usize, path: &str) -> String {
    format!(
        "{line}: `{path}` exists on Unix only; put it under `#[cfg(unix)]`, with a branch for other systems"
    )
}

fn method(line: usize, name: &str) -> String {
    format!(
        "{line}: the method `{name}` exists on Unix only; call it under `#[cfg(unix)]`, with a branch for \
         other systems"
    )
}

#[test]
fn paths_of_unix_are_found_in_imports_code_and_macros() {
    for (code, found) in [
        ("use std::os::unix::fs::MetadataExt;", "std::os::unix::fs::MetadataExt"),
        ("use std::{io, os::{fd::AsRawFd as _}};", "std::os::fd::AsRawFd"),
        ("use std::os::unix::fs::*;", "std::os::unix::fs::*"),
        ("use tokio::signal::unix::{self};", "tokio::signal::unix"),
        ("use tokio::net::{TcpStream, UnixStream};", "tokio::net::UnixStream"),
        ("use rustix::process::geteuid;", "rustix::process::geteuid"),
        ("use rustix::io::Errno;", "rustix::io::Errno"),
        ("fn f() -> u32 { libc::getpid() }", "libc::getpid"),
        ("fn f(a: nix::unistd::Pid) {}", "nix::unistd::Pid"),
        ("fn f() { std::os::unix::fs::symlink(a, b); }", "std::os::unix::fs::symlink"),
        ("use std::os; fn f() { os::unix::fs::symlink(a, b); }", "std::os::unix::fs::symlink"),
        ("use tokio::{signal}; fn f() { g!(signal::unix::signal(k)) }", "tokio::signal::unix::signal"),
        ("#[cfg(test)] mod tests { use std::os::unix::net::UnixStream; }", "std::os::unix::net::UnixStream"),
        ("#[cfg(not(unix))] use std::os::fd::OwnedFd;", "std::os::fd::OwnedFd"),
        ("#[cfg(not(windows))] use std::os::fd::OwnedFd;", "std::os::fd::OwnedFd"),
        ("#[cfg(any(unix, windows))] use std::os::fd::OwnedFd;", "std::os::fd::OwnedFd"),
        ("fn f() { if cfg!(unix) { libc::f(); } }", "libc::f"),
    ] {
        check_code(code, &[&path(2, found)]);
    }
}

#[test]
fn code_for_unix_and_portable_code_pass() {
    for code in [
        "use std::fs; fn f() { fs::metadata(a); }",
        "use rustix::net::Shutdown; fn f() { rustix::net::shutdown(a, Shutdown::Write); }",
        "use std::os::raw::c_int;",
        "#[cfg(windows)] use std::os::windows::fs::MetadataExt;",
        "#[cfg(unix)] use std::os::unix::fs::MetadataExt;",
        "#[cfg(all(test, unix))] mod tests { use std::os::unix::fs::MetadataExt; }",
        "#[cfg(any(target_os = \"linux\", target_os = \"macos\"))] use std::os::fd::OwnedFd;",
        "#[cfg(target_family = \"unix\")] fn f() { libc::getpid(); }",
        "fn f() { #[cfg(unix)] { libc::g(); } #[cfg(unix)] let a = libc::h(); #[cfg(unix)] libc::i(); }",
        "fn f() { match a { #[cfg(unix)] b => libc::g(), _ => {} } }",
        "struct A { #[cfg(unix)] b: std::os::fd::OwnedFd }",
        "impl A { #[cfg(unix)] fn f() { libc::g(); } #[cfg(not(unix))] fn f() {} }",
        "/// libc::getpid() and std::os::unix::fs are words here.\nfn f() { let unix = \"libc::f\"; }",
    ] {
        check_code(code, &[]);
    }
    check(&[("crates/a/src/b.rs", "//! A.\n#![cfg(unix)]\nuse std::os::unix::fs::MetadataExt;\n")], &[]);
}

#[test]
fn methods_of_unix_are_found_where_their_trait_is_not_needed() {
    let import = "#[cfg(unix)] use std::os::unix::fs::OpenOptionsExt as _;\n";
    check_code(&format!("{import}fn f() {{ OpenOptions::new().mode(0o600); }}"), &[&method(3, "mode")]);
    check_code(&format!("{import}fn f() {{ g!(options.mode(0o600)); }}"), &[&method(3, "mode")]);
    check_code(&format!("{import}fn f() {{ #[cfg(unix)] options.mode(0o600); }}"), &[]);
    // Another type's method.
    check_code("fn f() { unix.mode(); context.set_mode(1); }", &[]);
    check_code(
        "#[cfg(unix)] use std::os::unix::fs::PermissionsExt;\nfn f() { Permissions::from_mode(1); }",
        &[&method(3, "from_mode")],
    );
    check_code("fn f(command: &mut Command) { command.process_group(0); }", &[&method(2, "process_group")]);
}

#[test]
fn a_name_that_only_unix_has_needs_a_twin() {
    let problem = |line: usize, name: &str| {
        format!("{line}: this file defines `{name}` on Unix only; define it for other systems too")
    };
    let caller = "fn f() { user() }";
    check_code(&format!("#[cfg(unix)] fn user() {{}}\n{caller}"), &[&problem(3, "user")]);
    check_code(
        &format!("#[cfg(unix)] use rustix::process::geteuid as user;\n{caller}"),
        &[&problem(3, "user")],
    );
    for twin in ["#[cfg(not(unix))] fn user() {}", "#[cfg(windows)] use a::user;"] {
        check_code(&format!("#[cfg(unix)] fn user() {{}}\n{twin}\n{caller}"), &[]);
    }
    check_code(&format!("#[cfg(unix)] fn user() {{}}\n#[cfg(unix)] {caller}"), &[]);
}

#[test]
fn a_module_of_unix_includes_the_files_below_it() {
    let text = "//! A.\nuse std::os::unix::fs::MetadataExt;\n";
    let parent = "//! B.\nmod d;\n";
    check(
        &[
            ("crates/a/src/lib.rs", "//! A.\n#[cfg(unix)]\nmod b;\nmod e;\n"),
            ("crates/a/src/b.rs", text),
            ("crates/a/src/e.rs", "//! E.\n#[cfg(unix)]\nmod c { mod f; }\n"),
            ("crates/a/src/e/c/f.rs", parent),
            ("crates/a/src/e/c/f/d.rs", text),
            ("crates/a/tests/a/main.rs", "//! T.\n#[cfg(test)]\n#[cfg(unix)]\nmod page;\n"),
            ("crates/a/tests/a/page.rs", text),
            ("crates/a/tests/a/other.rs", text),
            // Not part of the product.
            ("xtask/src/a.rs", text),
        ],
        &[&format!("crates/a/tests/a/other.rs:{}", path(2, "std::os::unix::fs::MetadataExt"))],
    );
}
