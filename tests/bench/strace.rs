//! Counts of a process's system calls, by `strace -c`.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often each system call was made.
pub struct Counts(HashMap<String, f64>);

impl Counts {
    /// The name under which all calls together are counted.
    pub const ALL: &str = "total";

    /// Counts the calls of a process for a while, and what `progress` grows by meanwhile. `None` if there is
    /// no strace, or it may not look.
    pub fn of_process(
        process: u32,
        long: Duration,
        progress: impl Fn() -> usize,
    ) -> Option<(Counts, usize)> {
        let output = std::env::temp_dir().join(format!("strace-{process}"));
        let mut strace = Command::new("strace")
            .args(["-c", "-f", "-p", &process.to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let counted = is_attached(process, &mut strace).then(|| {
            let before = progress();
            sleep(long);
            progress() - before
        });
        // It writes its table when it is told to end.
        let id = rustix::process::Pid::from_child(&strace);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let _ = strace.wait();
        let table = fs::read_to_string(&output);
        let _ = fs::remove_file(&output);
        Some((Counts(read(&table.ok()?)), counted?))
    }

    /// How often the call of this name was made.
    pub fn of(&self, call: &str) -> f64 {
        self.0.get(call).copied().unwrap_or(0.0)
    }
}

/// Waits until strace follows all threads of the process.
fn is_attached(process: u32, strace: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(3);
    let is_traced =
        |status: &str| status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"));
    let all_traced = || {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let mut statuses =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        statuses.all(|status| is_traced(&status))
    };
    while Instant::now() < deadline && !matches!(strace.try_wait(), Ok(Some(_))) {
        if all_traced() {
            return true;
        }
        sleep(Duration::from_millis(5));
    }
    false
}

/// Reads the table: the calls are the fourth column, or the third but last, and the name is the last one.
fn read(table: &str) -> HashMap<String, f64> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (columns.last()?, columns.get(3)?);
        Some(((*name).to_owned(), calls.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}
