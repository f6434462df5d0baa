//! Keeping what is measured on a core of its own.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// As long as this lives, this thread, and all that it starts, leave a core to the program that is
/// measured, if there is more than one: neither then takes the other's time, nor its caches.
pub struct Apart(Option<Cores>);

struct Cores {
    all: CpuSet,
    own: CpuSet,
    others: CpuSet,
}

impl Apart {
    /// Goes to the other cores.
    pub fn go() -> Apart {
        let all = sched_getaffinity(THIS_THREAD).expect("a thread may ask where it runs");
        let Some(first) = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)) else {
            return Apart(None);
        };
        if all.count() < 2 {
            return Apart(None);
        }
        let (mut own, mut others) = (CpuSet::new(), all);
        own.set(first);
        others.unset(first);
        run_on(&others);
        Apart(Some(Cores { all, own, others }))
    }

    /// Starts the program that is measured, on its own core.
    pub fn start<T>(&self, program: impl FnOnce() -> T) -> T {
        let Some(cores) = &self.0 else { return program() };
        run_on(&cores.own);
        let started = program();
        run_on(&cores.others);
        started
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(cores) = &self.0 {
            run_on(&cores.all);
        }
    }
}

const THIS_THREAD: Option<Pid> = None;

fn run_on(cores: &CpuSet) {
    sched_setaffinity(THIS_THREAD, cores).expect("a thread may choose among its cores");
}
