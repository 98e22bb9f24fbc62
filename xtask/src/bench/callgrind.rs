//! Starts a program under callgrind, and takes the counts of a part of its run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::profile::Profile;
use crate::support::process::Processes;

/// A program under callgrind, which counts from `start_counting` on.
pub(super) struct Callgrind {
    id: u32,
    folder: PathBuf,
    dumps: usize,
}

impl Callgrind {
    /// A command that runs `program` under callgrind, on one processor. Its arguments are yet to be added.
    pub(super) fn command(folder: &Path, processor: usize, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command
            .args([
                "--cpu-list",
                &processor.to_string(),
                "valgrind",
                "--tool=callgrind",
                "--instr-atstart=no",
            ])
            // The names of generic functions have a hash that tells their instances apart.
            .args(["--demangle=no", "--compress-strings=no", "--compress-pos=no"])
            .arg(format!("--callgrind-out-file={}", folder.join(DUMP).display()))
            .arg(format!("--vgdb-prefix={}", folder.join(PIPE).display()))
            .arg(program);
        // Some libraries choose their code by the processor. This is the code for each x86-64 with SSSE3.
        command.env("OPENSSL_ia32cap", "0x0000020007800000:0");
        command.env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-BMI2,-BMI1,-LZCNT",
        );
        command
    }

    /// Takes over the child of this name, which runs in `folder`.
    pub(super) fn of(processes: &Processes, name: &str) -> Result<Self, String> {
        Ok(Self { id: processes.id(name)?, folder: processes.folder().to_owned(), dumps: 0 })
    }

    /// Starts to count. Until then the program runs several times faster.
    pub(super) fn start_counting(&self) -> Result<(), String> {
        self.tell(&["instrumentation", "on"])
    }

    /// The counts since the last call, or since counting started.
    pub(super) fn take(&mut self) -> Result<Profile, String> {
        self.tell(&["dump"])?;
        self.dumps += 1;
        let path = self.folder.join(format!("{DUMP}.{}", self.dumps));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Profile::parse(&text)
    }

    /// Sends a command to callgrind, and waits until it is done.
    fn tell(&self, words: &[&str]) -> Result<(), String> {
        let output = Command::new("vgdb")
            .arg(format!("--vgdb-prefix={}", self.folder.join(PIPE).display()))
            .arg(format!("--pid={}", self.id))
            .args(words)
            .output()
            .map_err(|error| format!("cannot run vgdb: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let problem = String::from_utf8_lossy(&output.stderr);
        Err(format!("callgrind refuses `{}`: {}", words.join(" "), problem.trim()))
    }
}

const DUMP: &str = "callgrind";
const PIPE: &str = "vgdb";
