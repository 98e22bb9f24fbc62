//! The metrics of the process by Prometheus' convention, without this gateway's prefix: read from `/proc` at
//! each scrape, so they are absent on other systems than Linux.

use std::{fmt, time::Duration};

use crate::{
    metrics::{families::Families, format::Format},
    process::descriptors,
};

/// Writes what the system says about this process.
pub(super) fn encode(out: &mut String, format: Format) -> fmt::Result {
    let mut families = Families::new(out, format, "process_");
    if let Some(Stat { cpu_seconds, threads, start_time_seconds, virtual_bytes, resident_bytes }) = stat() {
        families.counter("cpu_seconds", "Processor time of the process, user and system", cpu_seconds)?;
        families.gauge("threads", "Threads of the process", &threads)?;
        families.gauge("start_time_seconds", "Start of the process in Unix seconds", &start_time_seconds)?;
        families.gauge("virtual_memory_bytes", "Virtual memory of the process", &virtual_bytes)?;
        families.gauge("resident_memory_bytes", "Resident memory of the process", &resident_bytes)?;
    }
    if let Some(open) = open_descriptors() {
        families.gauge("open_fds", "Open file descriptors of the process", &open)?;
    }
    if let Some(limit) = descriptors::soft_limit() {
        families.gauge("max_fds", "Limit of the process on open file descriptors", &limit)?;
    }
    Ok(())
}

/// The numbers of `/proc/self/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    start_time_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    /// `stat` is the content of `/proc/self/stat`, `system` that of `/proc/stat`.
    fn parse(stat: &str, system: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        // The name of the process, in parentheses, may contain any character.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<_> = after_name.split_ascii_whitespace().collect();
        // proc(5) counts from 1; the first field after the name is the third.
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        let ticks = |count: u64| {
            let (whole, rest) = (count.checked_div(ticks_per_second)?, count.checked_rem(ticks_per_second)?);
            let rest_ns = rest.checked_mul(1_000_000_000)?.checked_div(ticks_per_second)?;
            Some(Duration::from_secs(whole) + Duration::from_nanos(rest_ns))
        };
        let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: ticks(field(14)?.checked_add(field(15)?)?)?.as_secs_f64(),
            threads: field(20)?,
            start_time_seconds: Duration::from_secs(booted).checked_add(ticks(field(22)?)?)?.as_secs_f64(),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.checked_mul(page_bytes)?,
        })
    }
}

#[cfg(target_os = "linux")]
fn stat() -> Option<Stat> {
    let read = |path| std::fs::read_to_string(path).ok();
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    Stat::parse(&read("/proc/self/stat")?, &read("/proc/stat")?, ticks_per_second, page_bytes)
}

#[cfg(not(target_os = "linux"))]
fn stat() -> Option<Stat> {
    None
}

/// The number of open descriptors, without the one that lists them.
fn open_descriptors() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 5 0 1200 104857600 2000 1 0 0";
    const SYSTEM: &str = "cpu  1 2 3\nintr 5\nbtime 1800000000\nprocesses 9\n";

    #[test]
    fn the_numbers_of_the_process_are_read_by_their_place() {
        let expected = Stat {
            cpu_seconds: 3.0,
            threads: 5,
            start_time_seconds: 1_800_000_012.0,
            virtual_bytes: 104_857_600,
            resident_bytes: 8_192_000,
        };
        assert_eq!(Stat::parse(STAT, SYSTEM, 100, 4096), Some(expected));
    }

    #[test]
    fn a_text_that_is_cut_short_has_no_numbers() {
        let words: Vec<_> = STAT.split(' ').collect();
        // The name has a blank.
        for count in 0..25 {
            assert_eq!(Stat::parse(&words[..count].join(" "), SYSTEM, 100, 4096), None, "{count}");
        }
        assert_eq!(Stat::parse(STAT, "cpu 1", 100, 4096), None);
    }
}
