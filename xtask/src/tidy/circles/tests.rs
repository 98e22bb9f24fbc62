//! Which paths tie one file to another.

use crate::tidy::tests::check as check_all;

/// Checks a crate of a root and the modules `a`, `b` and so on. `ties` are the lines of its only circle.
#[track_caller]
fn check(files: &[(&str, &str)], ties: &[&str]) {
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (format!("crates/x/src/{path}.rs"), format!("//! X.\n{text}\n")))
        .collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let root = tempfile::tempdir().unwrap();
    for (path, text) in &files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tree = crate::tidy::tree::Tree::read(root.path()).unwrap();
    let findings = super::findings(&tree);
    let found: Vec<_> =
        findings.iter().flat_map(|finding| finding.text.lines().skip(1)).map(str::trim).collect();
    assert_eq!(found, ties);
    assert!(findings.len() <= 1);
}

const ROOT: (&str, &str) = ("lib", "mod a;\nmod b;");

#[test]
fn two_files_that_use_each_other_are_a_circle() {
    check_all(
        &[
            ("crates/x/src/lib.rs", "//! X.\n\nmod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "//! A.\n\nuse crate::b::B;\n\nstruct A(B);\n"),
            ("crates/x/src/b.rs", "//! B.\n\nuse crate::a::A;\n\nstruct B(Box<A>);\n"),
        ],
        &["crates/x/src/a.rs:3: circle of 2 files; move the items that tie them to a file that names no \
           other file of the circle:\n    a.rs -> b.rs: B\n    b.rs -> a.rs: A"],
    );
}

#[test]
fn one_way_is_no_circle() {
    check(&[ROOT, ("a", "use crate::b::B;\nstruct A(B);"), ("b", "struct B;")], &[]);
}

#[test]
fn a_circle_may_have_three_files() {
    check(
        &[
            ("lib", "mod a;\nmod b;\nmod c;\nmod d;"),
            ("a", "use crate::b::B;\nstruct A(B);"),
            ("b", "use crate::{c::C, d::D};\nstruct B(C, D);"),
            ("c", "use crate::{a::A, d};\nstruct C(Box<A>, d::D);"),
            ("d", "struct D;"),
        ],
        &["a.rs -> b.rs: B", "b.rs -> c.rs: C", "c.rs -> a.rs: A"],
    );
}

#[test]
fn a_child_that_uses_its_parent_counts() {
    check(
        &[
            ("lib", "mod a;"),
            ("a", "mod b;\nuse self::b::B;\nstruct A(B);\nstruct C;"),
            ("a/b", "use super::C;\nstruct B(C);"),
        ],
        &["a.rs -> a/b.rs: B", "a/b.rs -> a.rs: C"],
    );
}

#[test]
fn declarations_and_re_exports_do_not_count() {
    check(
        &[
            ("lib", "mod a;\npub use a::{A, b::B};\npub struct C;"),
            ("a", "pub mod b;\npub(crate) use b::B;\nuse crate::C;\nstruct A(C);"),
            ("a/b", "use super::A;\npub struct B(A, crate::C);"),
        ],
        &[],
    );
}

#[test]
fn a_re_exported_item_counts_for_the_file_that_defines_it() {
    check(
        &[
            ("lib", "mod a;\nmod b;\npub use a::*;"),
            ("a", "pub mod c;\npub use c::C as Renamed;\nuse crate::b::B;\nstruct A(B);"),
            ("a/c", "use crate::b::B;\npub struct C(B);"),
            ("b", "use crate::Renamed;\npub struct B(Renamed);"),
        ],
        &["a/c.rs -> b.rs: B", "b.rs -> a/c.rs: C"],
    );
}

#[test]
fn a_re_export_that_the_file_uses_counts() {
    check(
        &[
            ("lib", "mod a;"),
            ("a", "mod b;\npub use b::B;\nstruct A(B);"),
            ("a/b", "pub struct B(Option<Box<super::A>>);"),
        ],
        &["a.rs -> a/b.rs: B", "a/b.rs -> a.rs: A"],
    );
}

#[test]
fn inline_paths_count() {
    let b = (
        "b",
        "pub struct B;\npub fn f() { crate::a::f(); }\npub const MAX: u8 = 1;\npub enum E { V }\n\
         pub trait T {}",
    );
    let back = "b.rs -> a.rs: f";
    for (text, name) in [
        ("fn f() -> crate::b::B { loop {} }", "B"),
        ("fn f() { super::b::f(); }", "f"),
        ("fn f() { let _ = [0; crate::b::MAX]; }", "MAX"),
        ("use crate::b;\nfn f(e: b::E) { match e { b::E::V => {} } }", "E"),
        ("fn f() {}\nimpl crate::b::T for u8 {}", "T"),
        ("fn f() { fn g(_: &dyn super::b::T) {} }", "T"),
        ("fn f() { println!(\"{}\", crate::b::MAX); }", "MAX"),
        ("use crate::b;\nfn f() { assert!(matches!(1, b::MAX)); }", "MAX"),
        ("fn f() { use crate::b::MAX; }", "MAX"),
        ("fn f() {}\nstruct S { #[serde(with = \"crate::b::MAX\")] a: u8 }", "MAX"),
        ("mod c { pub(super) fn g() { super::super::b::f(); } }\nfn f() { c::g(); }", "f"),
        ("use crate::b::E::*;\nfn f() { V; }", "E"),
    ] {
        check(&[ROOT, ("a", text), b], &[&format!("a.rs -> b.rs: {name}"), back]);
    }
}

#[test]
fn names_behind_a_glob_count_for_their_file() {
    let b = ("b", "pub struct B;\npub fn f() { crate::a::g(); }");
    check(
        &[ROOT, ("a", "use crate::b::*;\npub fn g() -> B { B }"), b],
        &["a.rs -> b.rs: B", "b.rs -> a.rs: g"],
    );
    check(&[ROOT, ("a", "use crate::b::*;\npub fn g() {}"), b], &[]);
    // A variable is not a function, even if it is named as one.
    check(&[ROOT, ("a", "use crate::b::*;\npub fn g(f: u8) -> u8 { f }"), b], &[]);
}

#[test]
fn globs_and_imports_in_a_ring_end() {
    check(
        &[
            ROOT,
            ("a", "pub use crate::b::*;\npub use crate::b::C;\nstruct A(D);"),
            ("b", "pub use crate::a::*;\npub use crate::a::C;"),
        ],
        &[],
    );
}

#[test]
fn macros_count() {
    check(
        &[
            ("lib", "#[macro_use]\nmod a;\nmod b;"),
            ("a", "macro_rules! m { () => { $crate::b::f() }; }\npub(crate) use m;"),
            ("b", "use crate::a::m;\npub fn f() { m!() }"),
        ],
        &["a.rs -> b.rs: f", "b.rs -> a.rs: m"],
    );
    check(
        &[
            ("lib", "macro_rules! m { () => {}; }\nmod a;\nuse a::A;\nstruct X(A);"),
            ("a", "pub struct A;\nm!();"),
        ],
        &["a.rs -> lib.rs: m", "lib.rs -> a.rs: A"],
    );
}

#[test]
fn tests_do_not_count() {
    check(
        &[
            ROOT,
            ("a", "use crate::b::B;\nstruct A(B);"),
            (
                "b",
                "struct B;\nimpl B { #[cfg(test)] fn a() -> crate::a::A { loop {} } }\n\
                 #[cfg(test)]\nuse crate::a::A;\n\
                 #[cfg(test)]\nmod tests;\n#[cfg(all(test, unix))]\nmod more { use crate::a::A; }",
            ),
            ("b/tests", "use crate::a::A;"),
        ],
        &[],
    );
}

#[test]
fn other_crates_do_not_count() {
    check(
        &[
            ROOT,
            ("a", "use ::b::B;\nuse std::b::C;\nuse d::B as D;\nuse crate::b::X;"),
            ("b", "use crate::a::A;\nstruct X;"),
        ],
        &[],
    );
    check(
        &[
            ROOT,
            ("a", "mod http;\nuse crate::b::B;"),
            ("a/http", "struct U;"),
            ("b", "use http::U;\nstruct B;"),
        ],
        &[],
    );
}

#[test]
fn the_binary_may_use_the_library() {
    check_all(
        &[
            ("crates/x/src/lib.rs", "//! X.\n\npub struct X;\n"),
            ("crates/x/src/main.rs", "//! X.\n\nuse x::X;\n\nmod a;\n"),
            ("crates/x/src/a.rs", "//! A.\n\nstruct A(crate::X);\n"),
        ],
        &[],
    );
}

#[test]
fn a_file_that_does_not_parse_is_reported() {
    check_all(
        &[("crates/x/src/lib.rs", "//! X.\n\nmod a;\n"), ("crates/x/src/a.rs", "//! A.\nfn 1() {}\n")],
        &["crates/x/src/a.rs:2: is not Rust: expected identifier"],
    );
}
