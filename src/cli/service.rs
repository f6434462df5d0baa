//! Runs root's commands as an installed service would: as the service's user, with its settings, credentials
//! and state, in a transient unit.
//!
//! Otherwise root would see settings, and sign in a session, that no server uses, and would write files that
//! the service cannot read.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, ExitCode, Stdio};

use rustix::process::geteuid;

use crate::config::given::Origin;
use crate::config::{Cli, Command, Examination, ModelsCommand};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The value of `--unit` for commands that are about one's own settings.
const NONE: &str = "none";
/// Directives of the unit that decide who runs, with what, and where the state is. The runtime directory is
/// not among them: it would be removed with the transient unit.
const TAKEN_OVER: [&str; 30] = [
    "User",
    "Group",
    "SupplementaryGroups",
    "DynamicUser",
    "PrivateUsers",
    "StateDirectory",
    "StateDirectoryMode",
    "UMask",
    "WorkingDirectory",
    "Environment",
    "EnvironmentFile",
    "PassEnvironment",
    "UnsetEnvironment",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "SetCredential",
    "SetCredentialEncrypted",
    // What it can reach, and how much there is of it.
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "InaccessiblePaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "PrivateNetwork",
    "NetworkNamespacePath",
    "RestrictAddressFamilies",
    "IPAddressAllow",
    "IPAddressDeny",
    "LimitNOFILE",
    "MemoryMax",
];
/// Exit codes from here on are systemd's own: the program was not started.
const NOT_STARTED: i32 = 200;
/// The credential without which no unit of ours starts.
const KEYS: &str = "api-keys";

/// Runs the command as the service would, if it is one that is about a server, root asks for it, a service is
/// installed, and nothing says that another state is meant. Returns its exit code; `None` if the command is
/// to be run here.
///
/// # Errors
/// The service's command cannot be started, or files for it cannot be opened.
pub fn hand_over(cli: &Cli) -> Result<Option<ExitCode>> {
    let (Some(command), unit) = (&cli.command, &cli.settings.serving.unit) else { return Ok(None) };
    let is_of_server = matches!(
        command,
        Command::Login { .. }
            | Command::Logout
            | Command::Whoami
            | Command::Doctor(_)
            | Command::Models(_)
    );
    if !is_of_server
        || cli.check_config
        || unit == NONE
        || is_given(cli, "state_dir")
        || !geteuid().is_root()
    {
        return Ok(None);
    }
    let Some(unit) = Unit::find(unit) else {
        return if is_given(cli, "unit") { Err(unknown(unit)) } else { Ok(None) };
    };
    eprintln!("As the service {} (--unit none: with your own settings instead)", unit.short());
    unit.check_credentials()?;
    let code = unit.run(command)?;
    if matches!(command, Command::Doctor(_)) {
        unit.say_what_others_can_read();
        unit.say_whether_it_runs();
    }
    Ok(Some(code))
}

fn unknown(unit: &str) -> Box<dyn std::error::Error> {
    format!("--unit {unit}: there is no such unit; `systemctl list-unit-files 'langfast2api*'` shows which there are")
        .into()
}

/// True if a flag or a variable has this setting.
fn is_given(cli: &Cli, setting: &str) -> bool {
    let mut settings = cli.settings.given.settings().iter();
    settings.any(|counting| {
        counting.setting == setting && matches!(counting.origin, Origin::Flag | Origin::Variable)
    })
}

/// An installed unit.
struct Unit {
    name: String,
    /// Key and value of each line of the unit, then of each line of its drop-ins.
    lines: Vec<(String, String)>,
}

impl Unit {
    fn find(name: &str) -> Option<Unit> {
        let name =
            if name.ends_with(".service") { name.to_owned() } else { format!("{name}.service") };
        let output =
            Program::new("systemctl").args(["cat", "--no-pager", "--", &name]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(Unit::parse(name, &text))
    }

    fn parse(name: String, text: &str) -> Unit {
        let instance =
            name.split_once('@').map_or("", |(_, rest)| rest.trim_end_matches(".service"));
        let text = text.replace("\\\n", " ").replace("%i", instance).replace("%%", "%");
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let Some((key, value)) = line.split_once('=') else { continue };
            match value.trim() {
                // So a drop-in takes back what was said before.
                "" => lines.retain(|(former, _)| former != key),
                value => lines.push((key.to_owned(), value.to_owned())),
            }
        }
        Unit { name, lines }
    }

    fn short(&self) -> &str {
        self.name.trim_end_matches(".service")
    }

    /// The files that the unit hands on: the credential's name, and the path.
    fn credentials(&self, key: &'static str) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.lines.iter().filter(move |(found, _)| found == key);
        lines.filter_map(|(_, value)| value.split_once(':'))
    }

    /// Fails if a file that the unit hands on is not there, and nothing stands in for it: systemd would start
    /// nothing, and say nothing here of what it misses.
    fn check_credentials(&self) -> Result<()> {
        let stands_in =
            |name: &str| self.credentials("SetCredential").any(|(other, _)| other == name);
        let missing = self.credentials("LoadCredential").find(|(name, path)| {
            path.starts_with('/') && !stands_in(name) && !Path::new(path).exists()
        });
        let Some((name, path)) = missing else { return Ok(()) };
        let advice = match name {
            KEYS => "make a key with `langfast2api keys add NAME`",
            _ => "write it, or take the line out of the unit (`systemctl edit`)",
        };
        Err(format!(
            "{path} is not there, which {} hands on (LoadCredential={name}), so the service cannot start: {advice}",
            self.name
        )
        .into())
    }

    /// Says which of the files that the unit hands on others can read: the service's user, for whom they are
    /// copied, cannot tell.
    fn say_what_others_can_read(&self) {
        for (_, path) in
            self.credentials("LoadCredential").filter(|(_, path)| others_can_read(Path::new(path)))
        {
            eprintln!("Others can read {path}: chmod 600 {path}, and change what is in it");
        }
    }

    fn say_whether_it_runs(&self) {
        let output = Program::new("systemctl").args(["is-active", "--", &self.name]).output();
        let Some(output) = output.ok().filter(|output| !output.status.success()) else { return };
        let (state, unit) = (String::from_utf8_lossy(&output.stdout), self.short());
        eprintln!(
            "The service itself does not run ({}): `journalctl -u {unit} -n 20` says why, `systemctl restart {unit}` starts it",
            state.trim()
        );
    }

    fn last(&self, key: &str) -> Option<&str> {
        self.lines.iter().rev().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The program and its arguments.
    fn program(&self) -> impl Iterator<Item = &str> {
        let words = self
            .last("ExecStart")
            .unwrap_or_default()
            .trim_start_matches(['-', '@', ':', '+', '!']);
        words.split_whitespace().map(|word| word.trim_matches(['"', '\'']))
    }

    fn properties(&self) -> Vec<String> {
        let own = self.lines.iter().filter(|(key, _)| TAKEN_OVER.contains(&key.as_str()));
        let mut properties: Vec<String> =
            own.map(|(key, value)| format!("{key}={value}")).collect();
        if self.last("DynamicUser").is_some() && self.last("User").is_none() {
            // So systemd names the user of such a unit.
            properties.push(format!("User={}", self.short()));
        }
        properties
    }

    /// The directory in which the service's user may write.
    fn state_directory(&self) -> PathBuf {
        let name = self.last("StateDirectory").unwrap_or_default();
        Path::new("/var/lib").join(name.split_whitespace().next().unwrap_or_default())
    }

    fn run(&self, command: &Command) -> Result<ExitCode> {
        let Files { input, arguments, capture } = self.files(command)?;
        // A terminal of its own can be asked for a password, and be left by Ctrl-C.
        let is_asking = matches!(command, Command::Login { .. }) && io::stdin().is_terminal();
        let status = Program::new("systemd-run")
            .args(["--quiet", "--wait", "--collect", if is_asking { "--pty" } else { "--pipe" }])
            .args(self.properties().iter().map(|property| format!("--property={property}")))
            .arg("--")
            .args(self.program())
            .args(std::env::args_os().skip(1))
            .args(["--unit", NONE])
            .args(arguments)
            .stdin(input)
            .status()
            .map_err(|error| format!("systemd-run: {error}"))?;
        capture.map_or(Ok(()), Moved::finish)?;
        if let Some(code) = status.code().filter(|code| *code >= NOT_STARTED) {
            eprintln!(
                "systemd could not start it as {}: `systemd-analyze exit-status {code}` and `journalctl -n 20` say why",
                self.name
            );
        }
        Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }

    /// The files that root names: the service's user can open none of them.
    fn files(&self, command: &Command) -> Result<Files> {
        let none = Files { input: Stdio::inherit(), arguments: Vec::new(), capture: None };
        Ok(match command {
            Command::Models(ModelsCommand { import: Some(file), .. }) if file != Path::new("-") => {
                let input = open(file)?.into();
                Files { input, arguments: vec!["--import".into(), "-".into()], ..none }
            }
            Command::Doctor(Examination { capture: Some(wanted), .. }) => {
                let moved = Moved::new(wanted, &self.state_directory())?;
                let arguments = vec!["--capture".into(), moved.from.clone().into()];
                Files { arguments, capture: Some(moved), ..none }
            }
            _ => none,
        })
    }
}

/// True if others may read the file and enter its directory.
fn others_can_read(path: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.mode());
    mode(path) & 0o044 != 0 && mode(path.parent().unwrap_or(path)) & 0o011 != 0
}

/// The files of root's that the command names, as the service's user reaches them.
struct Files {
    input: Stdio,
    /// Arguments that take the place of those that name them.
    arguments: Vec<OsString>,
    capture: Option<Moved>,
}

fn open(file: &Path) -> Result<File> {
    File::open(file).map_err(|error| format!("--import: {}: {error}", file.display()).into())
}

/// A file that the service's user writes where it may, and that is moved to where it is wanted.
struct Moved {
    from: PathBuf,
    to: File,
    wanted: PathBuf,
}

impl Moved {
    fn new(wanted: &Path, directory: &Path) -> Result<Moved> {
        let cannot = |error: io::Error| format!("--capture: {}: {error}", wanted.display());
        let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(wanted);
        let name = wanted.file_name().unwrap_or_default().to_string_lossy();
        let unique = format!(".{name}.{}", uuid::Uuid::new_v4().simple());
        let (from, to) = (directory.join(unique), to.map_err(cannot)?);
        Ok(Moved { from, to, wanted: wanted.to_owned() })
    }

    fn finish(mut self) -> Result<()> {
        let mut written = match File::open(&self.from) {
            Ok(file) => file,
            // Then its command has said why.
            Err(_) => return Ok(()),
        };
        io::copy(&mut written, &mut self.to)?;
        fs::remove_file(&self.from)?;
        eprintln!("The capture is in {}", self.wanted.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Unit {
        Unit::parse("langfast2api@8001.service".to_owned(), text)
    }

    #[test]
    fn what_decides_who_runs_is_taken_over_and_drop_ins_change_it() {
        let unit = parse(
            "# /etc/…\n[Service]\nExecStart=/bin/langfast2api --instance %i\nUser=a-%i\nRuntimeDirectory=a\n\
             EnvironmentFile=-/etc/a.env\nRestart=no\n# /etc/….d/x.conf\n[Service]\nEnvironmentFile=\n\
             Environment=A=1 \\\n  B=50%%\nExecStart=\nExecStart=/opt/langfast2api --log debug\n",
        );
        assert_eq!(unit.properties(), ["User=a-8001", "Environment=A=1    B=50%"]);
        assert_eq!(unit.program().collect::<Vec<_>>(), ["/opt/langfast2api", "--log", "debug"]);
    }

    #[test]
    fn what_the_unit_hands_on_has_to_be_there_unless_something_stands_in_for_it() {
        let check = |text: &str| parse(text).check_credentials().map_err(|error| error.to_string());
        let missing = check("LoadCredential=api-keys:/nowhere/api-keys\n").unwrap_err();
        assert!(
            missing.contains("/nowhere/api-keys is not there") && missing.contains("keys add"),
            "{missing}"
        );
        let other = check("LoadCredential=x:/nowhere/x\nSetCredential=y:\\n\n").unwrap_err();
        assert!(other.contains("LoadCredential=x") && other.contains("systemctl edit"), "{other}");
        check("LoadCredential=x:/nowhere/x\nSetCredential=x:\\n\nLoadCredential=y:/\nLoadCredential=z:of-systemd\n").unwrap();
    }

    #[test]
    fn a_dynamic_user_without_a_name_has_the_units() {
        let unit =
            Unit::parse("langfast2api.service".to_owned(), "DynamicUser=yes\nStateDirectory=x y\n");
        let properties = unit.properties();
        assert_eq!(properties.last().map(String::as_str), Some("User=langfast2api"));
        assert_eq!(unit.state_directory(), Path::new("/var/lib/x"));
    }
}
