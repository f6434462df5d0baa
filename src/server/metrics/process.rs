//! Metrics of the process, under the names that all of Prometheus' client libraries use. Values
//! that the kernel does not provide (no `/proc`) are left out.

use std::time::UNIX_EPOCH;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::observe::vitals::Vitals;

pub fn register(vitals: &Vitals, registry: &mut Registry) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = figure(&status, "VmRSS:") {
        let help = "Resident memory";
        let memory = ConstGauge::new(kib * 1024);
        registry.register_with_unit("process_resident_memory", help, Unit::Bytes, memory);
    }
    if let Some(threads) = figure(&status, "Threads:") {
        registry.register("process_threads", "Threads", ConstGauge::new(threads));
    }
    if let Some(open) = open_descriptors() {
        registry.register("process_open_fds", "Open descriptors", ConstGauge::new(open));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        registry.register("process_max_fds", "Most open descriptors", ConstGauge::new(most));
    }
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    let help = "Processor time of the process and of the kernel for it";
    registry.register_with_unit("process_cpu", help, Unit::Seconds, ConstCounter::new(used));
    let started = vitals.started_at().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started = ConstGauge::new(started.as_secs_f64());
    registry.register_with_unit("process_start_time", "Unix time", Unit::Seconds, started);
}

/// Returns a number from `/proc/self/status`; memory is in KiB there.
fn figure(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_descriptors() -> Option<u64> {
    let all = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One descriptor is the open directory itself.
    Some(all.saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_names() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    5120 kB\nThreads:\t7\n";
        assert_eq!(figure(status, "VmRSS:"), Some(5120));
        assert_eq!(figure(status, "Threads:"), Some(7));
        assert_eq!(figure(status, "Vm:"), None);
    }
}
