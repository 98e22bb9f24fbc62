//! The CPU time and the memory of a process and of all its descendants, from /proc.

use std::{fs, path::Path, time::Duration};

/// The CPU time of the running threads.
pub(super) fn cpu_time(process: u32) -> Duration {
    tree(process).into_iter().map(of_process).sum()
}

/// The CPU time of the calling thread.
pub(super) fn own_cpu_time() -> Duration {
    of_task(Path::new("/proc/thread-self")).unwrap_or_default()
}

/// The resident memory in KiB.
pub(super) fn memory_kib(process: u32) -> u64 {
    let of = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        size.trim().strip_suffix(" kB")?.parse().ok()
    };
    tree(process).into_iter().filter_map(of).fold(0, u64::saturating_add)
}

/// The scheduler counts nanoseconds, in the first field of `schedstat`. Ticks of 10 ms would be too coarse.
fn of_process(id: u32) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return Duration::ZERO };
    tasks.flatten().filter_map(|task| of_task(&task.path())).sum()
}

fn of_task(folder: &Path) -> Option<Duration> {
    let text = fs::read_to_string(folder.join("schedstat")).ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| Some((id, parent(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?)))
        .collect();
    let mut tree = vec![root];
    let mut index = 0;
    while let Some(current) = tree.get(index).copied() {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == current).map(|(id, _)| id));
        index += 1;
    }
    tree
}

/// The fourth field. The second one may contain blanks and brackets.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_parent_follows_the_name() {
        assert_eq!(parent("7 (a) b) S 12 7 7 0 -1"), Some(12));
        assert_eq!(parent("7 (a"), None);
    }

    #[test]
    fn a_tree_contains_the_children_of_a_shell() {
        let mut shell = Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().unwrap();
        let mut size = 0;
        for _ in 0..500 {
            size = tree(shell.id()).len();
            if size == 2 {
                break;
            }
            crate::support::pause(Duration::from_millis(10));
        }
        let memory = memory_kib(shell.id());
        for id in tree(shell.id()).into_iter().rev() {
            let _ = Command::new("sh").args(["-c", &format!("kill {id}")]).status();
        }
        shell.wait().unwrap();
        assert_eq!(size, 2);
        assert!(memory > 0);
    }
}
