//! A profile that callgrind wrote: the instructions of each function by source file, and its calls.
//!
//! The manual of valgrind documents the format under "Callgrind Format Specification". The files are written
//! without compression of names and positions.

use std::collections::HashMap;

/// The counts of one part of a run.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// All instructions.
    pub(super) total: u64,
    pub(super) functions: Vec<Function>,
    pub(super) costs: Vec<Cost>,
    pub(super) calls: Vec<Call>,
}

/// A function of a program or a library.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    /// The file of the program or the library.
    pub(super) object: String,
    /// The source file.
    pub(super) file: String,
    /// The mangled name.
    pub(super) name: String,
}

/// The instructions of a function that come from one source file, without those of the functions that it
/// calls. The file is another one than the function's if code was inlined.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// An index into `functions`.
    pub(super) function: usize,
    pub(super) file: String,
    pub(super) instructions: u64,
}

/// The calls of one function by another one, from the code of one source file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) caller: usize,
    pub(super) file: String,
    pub(super) callee: usize,
    /// The instructions of the callee and of all that it called.
    pub(super) instructions: u64,
}

impl Profile {
    /// All instructions, as a number to calculate with.
    #[expect(clippy::as_conversions, reason = "counts are far below 2^53")]
    pub(super) fn total_instructions(&self) -> f64 {
        self.total as f64
    }

    /// Parses a dump of callgrind.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.read(line).ok_or_else(|| format!("not a line of callgrind: {line}"))?;
        }
        reader.finish()
    }
}

#[derive(Default)]
struct Reader {
    profile: Profile,
    summary: Option<u64>,
    indices: HashMap<Function, usize>,
    /// The place of the lines that are read, and the function that the next line calls.
    place: Function,
    callee: Function,
    /// The source file of the current code.
    file: String,
    current: usize,
    is_call: bool,
    costs: HashMap<(usize, String), u64>,
    calls: HashMap<(usize, String, usize), u64>,
}

impl Default for Function {
    fn default() -> Self {
        Self { object: UNKNOWN.to_owned(), file: UNKNOWN.to_owned(), name: UNKNOWN.to_owned() }
    }
}

impl Reader {
    /// Reads a line. `None` if it has another format.
    fn read(&mut self, line: &str) -> Option<()> {
        if line.starts_with(|first: char| first.is_ascii_digit()) {
            return self.count(line);
        }
        if let Some(count) = line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")) {
            self.summary = count.trim().parse().ok();
            return self.summary.map(|_| ());
        }
        let Some((key, value)) = line.split_once('=') else { return Some(()) };
        let value = || value.to_owned();
        match key {
            "ob" => self.place.object = value(),
            "fl" => self.place.file = value(),
            "fi" | "fe" => {
                self.file = value();
                self.set_callee();
            }
            "fn" => {
                self.place.name = value();
                self.file.clone_from(&self.place.file);
                self.current = self.index(self.place.clone());
                self.set_callee();
            }
            "cob" => self.callee.object = value(),
            "cfi" | "cfl" => self.callee.file = value(),
            "cfn" => self.callee.name = value(),
            "calls" => self.is_call = true,
            // The head of the file.
            _ => {}
        }
        Some(())
    }

    /// Reads a line of a position and a count: that of a call after `calls=`.
    fn count(&mut self, line: &str) -> Option<()> {
        let count: u64 = line.split(' ').nth(1)?.parse().ok()?;
        if self.is_call {
            self.is_call = false;
            let callee = self.index(self.callee.clone());
            self.set_callee();
            *self.calls.entry((self.current, self.file.clone(), callee)).or_default() += count;
        } else {
            *self.costs.entry((self.current, self.file.clone())).or_default() += count;
        }
        Some(())
    }

    /// A call that names no file or object is one within those of the code that calls.
    fn set_callee(&mut self) {
        self.callee.object.clone_from(&self.place.object);
        self.callee.file.clone_from(&self.file);
    }

    fn index(&mut self, function: Function) -> usize {
        let functions = &mut self.profile.functions;
        *self.indices.entry(function).or_insert_with_key(|function| {
            functions.push(function.clone());
            functions.len() - 1
        })
    }

    fn finish(mut self) -> Result<Profile, String> {
        self.profile.total = self.summary.ok_or("callgrind wrote no summary")?;
        self.profile.costs = self
            .costs
            .into_iter()
            .map(|((function, file), instructions)| Cost { function, file, instructions })
            .collect();
        self.profile.calls = self
            .calls
            .into_iter()
            .map(|((caller, file, callee), instructions)| Call { caller, file, callee, instructions })
            .collect();
        Ok(self.profile)
    }
}

const UNKNOWN: &str = "???";

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "# callgrind format
version: 1
cmd:  switchboard serve
positions: line
events: Ir
summary: 118

ob=/bin/switchboard
fl=src/main.rs
fn=main
1 5
cfn=helper
calls=2 9
2 40
fi=src/inlined.rs
7 3
cob=/lib/libc.so.6
cfi=malloc.c
cfn=malloc
calls=1 0
7 60
fe=src/main.rs
3 10

fn=helper
9 40

ob=/lib/libc.so.6
fl=malloc.c
fn=malloc
0 60

totals: 118
";

    #[test]
    fn costs_are_those_of_a_function_and_a_source_file() {
        let profile = Profile::parse(DUMP).unwrap();
        assert_eq!(profile.total, 118);
        let mut costs: Vec<_> = profile
            .costs
            .iter()
            .map(|cost| {
                let function = &profile.functions[cost.function];
                format!("{} {} {} {}", function.object, function.name, cost.file, cost.instructions)
            })
            .collect();
        costs.sort();
        assert_eq!(
            costs,
            [
                "/bin/switchboard helper src/main.rs 40",
                "/bin/switchboard main src/inlined.rs 3",
                "/bin/switchboard main src/main.rs 15",
                "/lib/libc.so.6 malloc malloc.c 60",
            ]
        );
        assert_eq!(profile.costs.iter().map(|cost| cost.instructions).sum::<u64>(), profile.total);
    }

    #[test]
    fn calls_have_the_place_of_the_caller() {
        let profile = Profile::parse(DUMP).unwrap();
        let mut calls: Vec<_> = profile
            .calls
            .iter()
            .map(|call| {
                let [caller, callee] = [call.caller, call.callee].map(|index| &profile.functions[index]);
                format!("{} {} -> {} {}", caller.name, call.file, callee.object, callee.name)
            })
            .collect();
        calls.sort();
        assert_eq!(
            calls,
            ["main src/inlined.rs -> /lib/libc.so.6 malloc", "main src/main.rs -> /bin/switchboard helper"]
        );
    }

    #[test]
    fn a_dump_that_was_cut_short_is_refused() {
        assert!(Profile::parse("version: 1\n").is_err());
        assert!(Profile::parse("summary: 1\n12\n").is_err());
    }
}
