//! Programs that are started and ended here, and their figures in `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// The kernel counts CPU time for `/proc/PID/stat` in hundredths of a second, whatever its own clock.
const TICK_MICROS: f64 = 10_000.0;

/// A running program that has said where it listens; it is killed when this is dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    directory: Directory,
}

impl Process {
    /// Starts the simulator.
    pub fn simulator(program: &Path) -> Process {
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--literal"]);
        Process::start(command, Directory::new())
    }

    /// Starts the gateway in front of a simulator, with a new state directory.
    pub fn gateway(program: &Path, upstream: SocketAddr, flags: &[&str]) -> Process {
        let directory = Directory::new();
        let url = format!("http://{upstream}");
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| is_of_the_gateway(name)) {
            command.env_remove(name);
        }
        command
            .args(["--listen", "127.0.0.1:0", "--supabase-url", &url, "--runner-url", &url])
            .arg("--state-dir")
            .arg(directory.path.join("state"))
            .args(flags);
        Process::start(command, directory)
    }

    /// Starts this program as the least that the gateway's shape demands, for so many streams.
    pub fn shape(upstream: SocketAddr, streams: usize) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
        command.args(["--shape", &upstream.to_string(), "--streams", &streams.to_string()]);
        Process::start(command, Directory::new())
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn start(mut command: Command, directory: Directory) -> Process {
        let log = fs::File::create(directory.path.join("log")).expect("a log file can be made");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("its output can be read");
        let Some(address) = address_in(&line) else {
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(directory.path.join("log")).unwrap_or_default();
            panic!("{command:?} does not say where it listens: {line:?}\n{log}");
        };
        Process { child, address, directory }
    }

    /// CPU time so far, user's and system's, in microseconds; to a hundredth of a second.
    pub fn cpu_micros(&self) -> f64 {
        let stat = self.read("stat");
        let behind_name = stat.rsplit_once(") ").expect("a name in brackets").1;
        let fields: Vec<&str> = behind_name.split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
        (ticks(11) + ticks(12)) * TICK_MICROS
    }

    /// CPU time of the threads that live, in microseconds, by thread name.
    pub fn cpu_micros_by_thread(&self) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten() {
            let read = |name| fs::read_to_string(task.path().join(name));
            // A thread may end meanwhile.
            if let (Ok(name), Ok(time)) = (read("comm"), read("schedstat")) {
                *sums.entry(name.trim_end().to_owned()).or_default() += on_cpu_micros(&time);
            }
        }
        sums
    }

    /// A figure of `/proc/PID/status`, such as `VmRSS` in KiB or `Threads`.
    pub fn status(&self, name: &str) -> f64 {
        let status = self.read("status");
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let word = value.and_then(|value| value.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).expect("a figure of this name")
    }

    /// Lets `VmHWM` begin anew, at the present resident memory.
    pub fn reset_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("it is our child");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("it runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path.join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            eprintln!("the last lines of its log, the last one first: {last:#?}");
        }
    }
}

fn is_of_the_gateway(name: &str) -> bool {
    let proxy = name.to_ascii_uppercase().ends_with("_PROXY");
    name.starts_with("LANGFAST2API_") || name == "CREDENTIALS_DIRECTORY" || proxy
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split("http://").nth(1)?.split([',', '/', ' ', '\n']).next()?.parse().ok()
}

/// CPU time of this process so far, user's and system's, in microseconds.
pub fn own_cpu_micros() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// CPU time of this thread so far, in microseconds.
pub fn thread_cpu_micros() -> f64 {
    on_cpu_micros(&fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it"))
}

fn on_cpu_micros(schedstat: &str) -> f64 {
    let nanos = schedstat.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    nanos.expect("nanoseconds") / 1e3
}

/// What this machine is, and what else it is doing.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores, {}, Linux {}, load {}",
        model.map_or("unknown CPU", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("unknown"),
    )
}

/// A directory that is removed when this is dropped.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bench-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory can be made");
        Directory { path }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
