//! Finds out how much memory there is, and fits limits into it: a client can repeat what is refused with a
//! 503, but a process that the kernel ends for lack of memory loses all its answers.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::BadSetting;
use super::settings::LimitSettings;

/// The default limits where there is enough memory.
const MOST_REQUESTS: usize = 256;
const MOST_CONNECTIONS: usize = 1024;
/// MiB for the bodies of all requests.
const BODY_MEMORY: u16 = 64;
/// MiB for stored responses, and for what WebSockets keep for themselves.
const STORED: u16 = 16;

/// Bytes that the program takes without any request, with TLS and its own pages (measured: 7 MB without TLS; the
/// rest is an estimate).
const PROGRAM: u64 = 8 << 20;
/// Bytes of a streamed answer with its connection, the kernel's part included (measured: 93 to 101 KiB, of
/// which 41 are the process's; two thread's stacks in the kernel are 32).
const REQUEST: u64 = 100 << 10;
/// Bytes of an idle connection, the kernel's part included (measured: 15 KiB of the process's; the
/// rest is an estimate).
const CONNECTION: u64 = 48 << 10;

/// The memory that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    bytes: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The limit of a control group: the program's, or one that holds it.
    Group,
    /// The memory that the system had available at the start.
    System,
}

impl fmt::Display for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.place {
            Place::Group => "in its control group",
            Place::System => "available at its start",
        };
        write!(out, "{} MiB {of}", self.bytes >> 20)
    }
}

impl Memory {
    /// Finds out how much memory there is; `None` if the system does not say.
    pub fn find() -> Option<Memory> {
        Memory::below(Path::new("/"))
    }

    /// Finds out how much memory there is on a system whose root directory is `root`.
    fn below(root: &Path) -> Option<Memory> {
        let group = group_limit(root).map(|bytes| Memory { bytes, place: Place::Group });
        let system = available(root).map(|bytes| Memory { bytes, place: Place::System });
        group.into_iter().chain(system).min_by_key(|memory| memory.bytes)
    }
}

/// The lowest limit of this process's control group and of those that hold it, in either version of control
/// groups.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // HIERARCHY:CONTROLLERS:PATH, where version 2 names no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        lowest(&root.join(folder), Path::new(path.trim_start_matches('/')), file)
    });
    limits.min()
}

/// The lowest number in the files of this name from `folder`/`path` up to `folder`. In a container the path may
/// be that of the host, so that only the top is there.
fn lowest(folder: &Path, path: &Path, file: &str) -> Option<u64> {
    let number = |group: PathBuf| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok();
    path.ancestors().filter_map(|group| number(folder.join(group))).min()
}

fn available(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Limits that fit into the memory that there is, unless they are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FittedLimits {
    /// Requests worked on at once.
    pub requests: usize,
    /// Connections at once.
    pub connections: usize,
    /// Bytes that the bodies of all requests may take together.
    pub body_memory: usize,
    /// Bytes that stored responses may take together; 0 if none are stored.
    pub stored: usize,
    /// Bytes that WebSockets may take together for what they keep for themselves: as much as for stored
    /// responses, and enough where none are stored, since clients on a WebSocket rely on it.
    pub lanes: usize,
    /// The memory that has lowered one of the limits; `None` if none is lowered.
    pub lowered_by: Option<Memory>,
}

impl FittedLimits {
    /// The limits of these settings on this machine.
    ///
    /// # Errors
    /// A body of the greatest length would not fit into the memory that is set for all bodies.
    pub fn of(settings: &LimitSettings) -> Result<FittedLimits, BadSetting> {
        FittedLimits::within(settings, Memory::find())
    }

    fn within(
        settings: &LimitSettings,
        memory: Option<Memory>,
    ) -> Result<FittedLimits, BadSetting> {
        let ample = Ample {
            requests: MOST_REQUESTS,
            connections: MOST_CONNECTIONS,
            body_memory: mib(settings.max_body.max(BODY_MEMORY)),
            stored: mib(STORED),
        };
        let fit = memory.map_or(ample, |memory| ample.within(memory.bytes));
        if let Some(set) = settings.body_memory.filter(|set| *set < settings.max_body) {
            return Err(too_small(settings, set));
        }
        let stored = settings.store_responses.map_or(fit.stored, mib);
        let limits = FittedLimits {
            requests: settings.max_requests.unwrap_or(fit.requests),
            connections: settings.max_connections.unwrap_or(fit.connections),
            body_memory: settings.body_memory.map_or(fit.body_memory, mib),
            stored,
            lanes: stored.max(fit.stored),
            lowered_by: None,
        };
        let is_lowered = settings.max_requests.is_none() && fit.requests < ample.requests
            || settings.max_connections.is_none() && fit.connections < ample.connections
            || settings.body_memory.is_none() && fit.body_memory < ample.body_memory
            || settings.store_responses.is_none() && fit.stored < ample.stored;
        Ok(FittedLimits { lowered_by: memory.filter(|_| is_lowered), ..limits })
    }

    /// The value of a setting; `None` if it is not one of these limits.
    pub fn shown(&self, setting: &str) -> Option<String> {
        match setting {
            "max_requests" => Some(self.requests.to_string()),
            "max_connections" => Some(self.connections.to_string()),
            "body_memory" => Some((self.body_memory >> 20).to_string()),
            "store_responses" => Some((self.stored >> 20).to_string()),
            _ => None,
        }
    }
}

/// Limits where nothing is set.
#[derive(Clone, Copy)]
struct Ample {
    requests: usize,
    connections: usize,
    body_memory: usize,
    stored: usize,
}

impl Ample {
    /// Lowers the limits to fit into this many bytes. Of what the program itself leaves, three eighths are for
    /// requests, one for further connections, two for bodies, one for stored responses and one for what
    /// WebSockets keep.
    fn within(self, bytes: u64) -> Ample {
        let eighth = bytes.saturating_sub(PROGRAM) / 8;
        let number = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let requests = self.requests.min(number(3 * eighth / REQUEST)).max(1);
        let connections = requests + number(eighth / CONNECTION).max(1);
        Ample {
            requests,
            connections: self.connections.min(connections),
            body_memory: self.body_memory.min(number(2 * eighth)).max(1 << 20),
            stored: self.stored.min(number(eighth)).max(1 << 20),
        }
    }
}

fn mib(number: u16) -> usize {
    usize::from(number) << 20
}

fn too_small(settings: &LimitSettings, memory: u16) -> BadSetting {
    settings.given.bad(
        "body_memory",
        format_args!(
            "it is {memory} MiB, and one body may have {} ({}): raise the one, or lower the other",
            settings.max_body,
            settings.given.name("max_body")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    const INFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  409600 kB\n");

    fn found(files: &[(&str, &str)]) -> Option<String> {
        Memory::below(root(files).path()).map(|memory| memory.to_string())
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts_or_else_what_is_available() {
        let group = ("proc/self/cgroup", "0::/system.slice/langfast2api.service\n");
        let own = "sys/fs/cgroup/system.slice/langfast2api.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        let available = Some("400 MiB available at its start".to_owned());
        let limited = |mib| Some(format!("{mib} MiB in its control group"));
        assert_eq!(found(&[INFO]), available);
        assert_eq!(found(&[INFO, group, (own, "max\n")]), available);
        assert_eq!(found(&[INFO, group, (own, "max\n"), (above, "67108864\n")]), limited(64));
        assert_eq!(found(&[INFO, group, (own, "33554432\n"), (above, "67108864\n")]), limited(32));
        assert_eq!(found(&[INFO, group, (own, "1073741824\n")]), available, "there is not so much");
        // In a container the path is the host's, or `/`.
        let top = ("sys/fs/cgroup/memory.max", "16777216\n");
        assert_eq!(found(&[group, top]), limited(16));
        assert_eq!(found(&[("proc/self/cgroup", "0::/\n"), top]), limited(16));
        let old = ("proc/self/cgroup", "4:memory:/docker/a\n3:cpu:/\n0::/\n");
        let limit = ("sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "16777216\n");
        assert_eq!(found(&[INFO, old, limit]), limited(16));
        assert_eq!(found(&[]), None);
    }

    fn fitted(mib: u64, flags: &[&str]) -> FittedLimits {
        let memory = Memory { bytes: mib << 20, place: Place::Group };
        let flags = [&["--state-dir", "/nowhere"], flags].concat();
        FittedLimits::within(&Settings::of_flags(&flags).limits, Some(memory)).unwrap()
    }

    #[test]
    fn limits_fit_into_little_memory_and_are_no_higher_where_there_is_much() {
        let ample = fitted(100_000, &[]);
        assert_eq!((ample.requests, ample.connections), (MOST_REQUESTS, MOST_CONNECTIONS));
        assert_eq!((ample.body_memory, ample.lowered_by), (64 << 20, None));
        assert_eq!((ample.stored, ample.lanes), (16 << 20, 16 << 20));
        for mib in [0, 8, 9, 16, 24, 32, 64, 128, 256] {
            let limits = fitted(mib, &[]);
            assert!(limits.requests >= 1 && limits.connections > limits.requests, "{limits:?}");
            assert!(limits.lowered_by.is_some() && limits.body_memory <= 64 << 20);
            assert!((1 << 20..=16 << 20).contains(&limits.stored) && limits.lanes == limits.stored);
            let spare = (limits.connections - limits.requests) as u64;
            let bytes = PROGRAM
                + limits.requests as u64 * REQUEST
                + spare * CONNECTION
                + (limits.body_memory + limits.stored + limits.lanes) as u64;
            assert!(mib < 16 || bytes <= mib << 20, "{mib}: {limits:?}");
        }
        let small = fitted(16, &[]);
        assert!((30..60).contains(&small.requests), "{small:?}");
    }

    #[test]
    fn what_is_set_stays_however_little_memory_there_is() {
        let flags = ["--max-requests", "500", "--max-connections", "2000", "--body-memory", "100"];
        let set = fitted(16, &[&flags[..], &["--store-responses", "20"]].concat());
        assert_eq!((set.stored, set.lanes), (20 << 20, 20 << 20));
        assert_eq!((set.requests, set.connections, set.body_memory), (500, 2000, 100 << 20));
        assert_eq!(set.lowered_by, None);
        assert!(fitted(16, &flags[..2]).lowered_by.is_some());
        let none = fitted(16, &["--store-responses", "0"]);
        assert_eq!((none.stored, none.lanes), (0, fitted(16, &[]).lanes));
    }
}
