//! The machine and the libraries that a measurement depends on.

use std::{
    env::{self, consts::ARCH},
    fs,
    process::Command,
};

/// True on the processors that the budget is for.
pub(super) fn is_x86_64() -> bool {
    ARCH == "x86_64"
}

/// Names all that the count of instructions depends on besides the code: the compiler, the C library,
/// OpenSSL, and the instruction set that libraries without a switch choose for themselves.
pub(super) fn environment() -> Result<String, String> {
    let compiler = output("rustc", &["--version"])?;
    let compiler = compiler.split(' ').nth(1).map(minor).unwrap_or_default();
    let c_library = output("getconf", &["GNU_LIBC_VERSION"])?;
    let openssl = openssl::version::version();
    let openssl = openssl.split(' ').nth(1).map(minor).unwrap_or_default();
    let vectors = if flags().any(|flag| flag == "avx2") { "AVX2" } else { "no AVX2" };
    Ok(format!("{ARCH} with {vectors}, rustc {compiler}, {}, OpenSSL {openssl}", c_library.trim()))
}

/// The processor, the system, and the versions of the programs that are compared. Fails if one is missing.
pub(super) fn describe() -> Result<Vec<(&'static str, String)>, String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let features = flags().filter(|flag| ["avx2", "avx512f", "sha_ni"].contains(&flag.as_str()));
    let features = features.collect::<Vec<_>>().join(" ");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let version = |program: &str, options: &[&str]| {
        let text =
            output(program, options).map_err(|problem| format!("{problem}; run ./install-packages bench"));
        Ok::<_, String>(text?.lines().next().unwrap_or_default().trim().to_owned())
    };
    Ok(vec![
        ("CPU", format!("{} ({features})", cpu.trim_start_matches([':', '\t', ' ']))),
        ("Linux", kernel.trim().to_owned()),
        ("load", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("rustc", version("rustc", &["--version"])?),
        ("OpenSSL", openssl::version::version().to_owned()),
        ("nginx", version("nginx", &["-v"])?),
        ("HAProxy", version("haproxy", &["-v"])?),
        ("wrk", version("wrk", &["-v"])?),
    ])
}

/// The first processor that this process may use.
pub(super) fn first_processor() -> Result<usize, String> {
    allowed()?.first().copied().ok_or_else(|| "/proc/self/status names no processor".to_owned())
}

/// The first two processors that this process may use.
pub(super) fn two_processors() -> Result<[usize; 2], String> {
    match *allowed()?.as_slice() {
        [first, second, ..] => Ok([first, second]),
        _ => Err("a comparison needs two processors".to_owned()),
    }
}

fn allowed() -> Result<Vec<usize>, String> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    Ok(allowed_in(&status))
}

/// The processors in a list like `0,2-5`.
fn allowed_in(status: &str) -> Vec<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

fn flags() -> impl Iterator<Item = String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default().to_owned();
    flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The first two numbers of a version.
fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// The folders of programs. Debian leaves out that of nginx and HAProxy for users other than root.
pub(super) fn path() -> String {
    format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default())
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).env("PATH", path()).output();
    let mut output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    // nginx prints its version to stderr.
    output.stdout.append(&mut output.stderr);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_those_of_the_list() {
        for (list, expected) in
            [("0-1", vec![0, 1]), ("3,5-7", vec![3, 5, 6, 7]), ("12", vec![12]), ("", vec![])]
        {
            assert_eq!(allowed_in(&format!("Name:\tx\nCpus_allowed_list:\t{list}\n")), expected, "{list}");
        }
    }

    #[test]
    fn an_environment_names_minor_versions() {
        assert_eq!(minor("3.0.17"), "3.0");
        assert_eq!(minor("1.95.0"), "1.95");
    }
}
