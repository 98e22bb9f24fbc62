//! The machine and the libraries that a measurement depends on.

use std::{env::consts::ARCH, fs, process::Command};

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

/// The first processor that this process may use.
pub(super) fn first_processor() -> Result<usize, String> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    first_allowed(&status).ok_or_else(|| "/proc/self/status names no processor".to_owned())
}

fn first_allowed(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().split([',', '-']).next()?.parse().ok()
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

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_is_that_of_the_list() {
        for (list, first) in [("0-1", Some(0)), ("3,5-7", Some(3)), ("12", Some(12)), ("", None)] {
            assert_eq!(first_allowed(&format!("Name:\tx\nCpus_allowed_list:\t{list}\n")), first, "{list}");
        }
    }

    #[test]
    fn an_environment_names_minor_versions() {
        assert_eq!(minor("3.0.17"), "3.0");
        assert_eq!(minor("1.95.0"), "1.95");
    }
}
