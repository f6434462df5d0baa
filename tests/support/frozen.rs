//! A thread of another process that stands still, wherever it is: what a stuck one looks like from
//! outside.

use std::io;
use std::ptr::null_mut;

use libc::{PTRACE_DETACH, PTRACE_INTERRUPT, PTRACE_SEIZE, c_uint, pid_t, ptrace};

/// Threads of a child process, stopped by ptrace; they go on when this is dropped, which has to be
/// where it was made.
pub struct Frozen(Vec<pid_t>);

impl Frozen {
    /// Freezes all threads of `process` that have this name, but its first.
    pub fn threads(process: u32, name: &str) -> Frozen {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let has_name = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let paths = tasks.map(|task| task.unwrap().path()).filter(has_name);
        let id = |path: std::path::PathBuf| path.file_name()?.to_str()?.parse().ok();
        let mut frozen = Frozen(paths.filter_map(id).collect());
        frozen.0.retain(|thread| *thread != process as pid_t);
        assert!(!frozen.0.is_empty(), "no thread {name}");
        for thread in &frozen.0 {
            call(PTRACE_SEIZE, *thread);
            call(PTRACE_INTERRUPT, *thread);
            // SAFETY: waitpid writes nothing, as no place for a status is given.
            let stopped = unsafe { libc::waitpid(*thread, null_mut(), libc::__WALL) };
            assert_eq!(stopped, *thread, "{}", io::Error::last_os_error());
        }
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for thread in &self.0 {
            call(PTRACE_DETACH, *thread);
        }
    }
}

fn call(request: c_uint, thread: pid_t) {
    // SAFETY: these requests take neither an address nor data; the kernel checks the thread's id.
    let result =
        unsafe { ptrace(request, thread, null_mut::<libc::c_void>(), null_mut::<libc::c_void>()) };
    assert!(result == 0 || std::thread::panicking(), "ptrace: {}", io::Error::last_os_error());
}
