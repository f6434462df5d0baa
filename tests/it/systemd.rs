//! What is shipped for systemd: its own tools find no fault in the units, a socket that it passes on is
//! served, and the installer puts things where they belong, and takes them away again.
//!
//! Where systemd's tools are not installed this is left out, with a word, unless `REQUIRE_SYSTEMD=1` is
//! set.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Connection, Directory, Start, free_address, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_langfast2api");
const UNITS: [&str; 3] = ["langfast2api.service", "langfast2api@.service", "langfast2api.socket"];
/// systemd's own measure: 0 is no exposure, 10 the most.
const MOST_EXPOSURE: &str = "15";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Whether a tool is there; it has to be if the variable says so.
fn has(tool: &str) -> bool {
    let is_there = Command::new(tool).arg("--version").output().is_ok();
    let required = std::env::var("REQUIRE_SYSTEMD").is_ok_and(|value| value == "1");
    assert!(is_there || !required, "{tool} is not installed");
    is_there
}

/// Runs it to its end; gives what it says. It has to succeed.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The shipped units, with the program where it is, and an instance of the template.
fn units() -> Directory {
    let directory = Directory::new();
    for name in UNITS {
        let unit = fs::read_to_string(scripts().join(name)).unwrap();
        let unit = unit.replace("/usr/local/bin/langfast2api", PROGRAM);
        fs::write(directory.path().join(name.replace('@', "@8001")), unit).unwrap();
    }
    directory
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    if !has("systemd-analyze") {
        return;
    }
    let units = units();
    for name in UNITS {
        let unit = units.path().join(name.replace('@', "@8001"));
        // What is wrong but not fatal is said, and left out.
        let said = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit));
        assert_eq!(said, "");
    }
}

#[test]
fn the_service_is_as_little_exposed_as_it_is_said_to_be() {
    if !has("systemd-analyze") {
        return;
    }
    let units = units();
    for name in &UNITS[..2] {
        run(Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true", "--threshold", MOST_EXPOSURE])
            .arg(units.path().join(name.replace('@', "@8001"))));
    }
}

#[test]
fn an_instance_differs_from_the_one_service_only_where_it_is_named() {
    let settings = |name: &str| -> Vec<String> {
        let unit = fs::read_to_string(scripts().join(name)).unwrap();
        let lines = unit.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let (one, instance) = (settings(UNITS[0]), settings(UNITS[1]));
    assert_eq!(one.len(), instance.len());
    for (one, instance) in one.iter().zip(&instance) {
        assert!(one == instance || instance.contains("%i"), "{one} is {instance}");
    }
}

#[test]
fn a_socket_that_systemd_holds_is_served_from_the_first_connection_on() {
    if !has("systemd-socket-activate") {
        return;
    }
    // It binds the port itself.
    let address = free_address();
    let state = Directory::new();
    let mut child = Command::new("systemd-socket-activate")
        .args(["--listen", &address.to_string(), PROGRAM, "--state-dir"])
        .arg(state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the socket", || std::net::TcpStream::connect(address).is_ok());
    let mut connection = Connection::open(address);
    connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&format!("listens on http://{address}")), "{line}");
    // It has become the program.
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The installer, for a root of its own.
fn installer(root: &Directory) -> Command {
    let mut command = Command::new(scripts().join("install.sh"));
    command.env("DESTDIR", root.path());
    command
}

/// Files with their modes, and the directories that are closed to others.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, is_directory) = (entry.path(), entry.file_type().unwrap().is_dir());
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            if !is_directory || mode == 0o700 {
                found.push(format!("{} {mode:o}", path.strip_prefix(root).unwrap().display()));
            }
            if is_directory {
                directories.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_installer_installs_upgrades_without_changing_settings_and_removes() {
    let root = Directory::new();
    let said = run(installer(&root).arg(PROGRAM));
    let key = said.lines().find_map(|line| line.strip_prefix("API key, for your clients: "));
    let key = key.expect("a key").to_owned();
    assert!(key.len() == 48 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    let keys = root.path().join("etc/langfast2api/api-keys");
    let kept = format!("{key}  # first\n");
    assert_eq!(fs::read_to_string(&keys).unwrap(), kept);
    let installed = [
        "etc/langfast2api 700",
        "etc/langfast2api/api-keys 600",
        "etc/langfast2api/langfast2api.env 600",
        "etc/langfast2api/langfast2api.toml 600",
        "usr/local/bin/langfast2api 755",
        "usr/local/lib/systemd/system/langfast2api.service 644",
        "usr/local/lib/systemd/system/langfast2api.socket 644",
        "usr/local/lib/systemd/system/langfast2api@.service 644",
        "usr/local/share/bash-completion/completions/langfast2api 644",
        "usr/local/share/fish/vendor_completions.d/langfast2api.fish 644",
        "usr/local/share/langfast2api/units.sha256 644",
        "usr/local/share/man/man1/langfast2api.1 644",
        "usr/local/share/zsh/site-functions/_langfast2api 644",
    ];
    assert_eq!(files(root.path()), installed);

    let settings = root.path().join("etc/langfast2api/langfast2api.env");
    fs::write(&settings, "LANGFAST2API_LOG=debug\n").unwrap();
    fs::write(root.path().join("usr/local/bin/langfast2api"), "an old one").unwrap();
    let said = run(installer(&root).arg(PROGRAM));
    assert!(!said.contains("API key"), "a key is shown once: {said}");
    assert_eq!(fs::read_to_string(&settings).unwrap(), "LANGFAST2API_LOG=debug\n");
    assert_eq!(fs::read_to_string(&keys).unwrap(), kept);
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(size(&root.path().join("usr/local/bin/langfast2api")), size(Path::new(PROGRAM)));
    assert_eq!(files(root.path()), installed);

    // What it installed is what starts.
    let (status, version, _) = Start::new("http://x").arg("-V").run();
    assert!(status.success() && said.contains(version.trim_end()));

    run(installer(&root).arg("--remove"));
    assert_eq!(files(root.path()), installed[..4]);
    run(installer(&root).args(["--remove", "--purge"]));
    assert_eq!(files(root.path()), [""; 0]);
}

#[test]
fn units_that_somebody_has_changed_go_on_to_count_after_an_upgrade() {
    let root = Directory::new();
    run(installer(&root).arg(PROGRAM));
    let place = |name: &str| root.path().join(name).join("langfast2api.socket");
    let (installed, own) = (place("usr/local/lib/systemd/system"), place("etc/systemd/system"));
    let shipped = fs::read_to_string(&installed).unwrap();
    let said = run(installer(&root).arg(PROGRAM));
    assert!(!own.exists() && !said.contains("your own"), "{said}");

    fs::write(&installed, shipped.replace("8000", "8080")).unwrap();
    let said = run(installer(&root).arg(PROGRAM));
    assert!(said.contains("your own /etc/systemd/system/langfast2api.socket"), "{said}");
    assert!(fs::read_to_string(&own).unwrap().contains("8080"));
    assert_eq!(fs::read_to_string(&installed).unwrap(), shipped);
    run(installer(&root).arg(PROGRAM));
    assert!(fs::read_to_string(&own).unwrap().contains("8080"), "and so after the next one");
}

/// The package of a binary, and its files with their modes.
fn package() -> Option<Vec<String>> {
    if !has("dpkg-deb") {
        return None;
    }
    let target = Directory::new();
    // In place of the program, which is large here: what calls it.
    let stand_in = target.path().join("langfast2api");
    fs::write(&stand_in, format!("#!/bin/sh\nexec '{PROGRAM}' \"$@\"\n")).unwrap();
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let built = run(Command::new(scripts().join("build-deb"))
        .arg("--binary")
        .arg(&stand_in)
        .env("CARGO_TARGET_DIR", target.path()));
    let deb = built.lines().find(|line| line.ends_with(".deb")).unwrap();
    let list = run(Command::new("dpkg-deb").args(["--contents", deb]));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (!fields[0].starts_with('l')).then(|| format!("{} {}", &fields[5][1..], fields[0]))
    };
    Some(list.lines().filter_map(row).collect())
}

#[test]
fn the_package_has_the_installers_files_and_closes_settings_to_others() {
    let Some(package) = package() else { return };
    for line in [
        "/etc/langfast2api/ drwx------",
        "/etc/langfast2api/langfast2api.env -rw-------",
        "/etc/langfast2api/langfast2api.toml -rw-------",
        "/usr/share/doc/langfast2api/examples/haproxy.cfg -rw-r--r--",
        "/usr/share/doc/langfast2api/examples/prometheus-rules.yml -rw-r--r--",
    ] {
        assert!(package.iter().any(|found| found == line), "{line}: {package:#?}");
    }
    let root = Directory::new();
    run(installer(&root).arg(PROGRAM));
    let own = ["etc/langfast2api 700", "etc/langfast2api/api-keys 600"];
    for file in files(root.path()) {
        if own.contains(&file.as_str()) || file.contains("units.sha256") {
            continue;
        }
        let (name, mode) = file.rsplit_once(' ').unwrap();
        let name =
            name.replace("usr/local/", "usr/").replace("site-functions", "vendor-completions");
        let name = name.replace("langfast2api.1", "langfast2api.1.gz");
        let shown = ["rw-------", "rw-r--r--", "rwxr-xr-x"];
        let at = ["600", "644", "755"].iter().position(|known| *known == mode).unwrap();
        let line = format!("/{name} -{}", shown[at]);
        assert!(package.contains(&line), "{line}: {package:#?}");
    }
}

#[test]
fn the_installer_refuses_what_it_cannot_use() {
    let root = Directory::new();
    for (arguments, status) in [
        (&["/no/such/file"][..], 1),
        (&["/etc/passwd"], 1),
        (&["--unknown"], 2),
        (&["--purge"], 2),
        (&["one", "two"], 2),
    ] {
        let output = installer(&root).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(files(root.path()), [""; 0]);
}

#[test]
fn the_installer_is_sound_as_shellcheck_sees_it() {
    if has("shellcheck") {
        let deb = ["deb/postinst", "deb/prerm", "deb/postrm"];
        let all = ["install.sh", "build-deb"].into_iter().chain(deb);
        run(Command::new("shellcheck").args(all.map(|name| scripts().join(name))));
    }
}
