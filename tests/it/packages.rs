//! What other systems' packages are made of, and the script that gets a release: from a release that is made
//! here, in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Directory;
use crate::support::page::repository;

/// Runs `scripts/packages/fill`, and returns where the files are.
fn filled(directory: &Directory, sums: Option<&Path>) -> PathBuf {
    let out = directory.path().join("filled");
    let mut fill = Command::new(repository().join("scripts/packages/fill"));
    let output = fill.arg("--out").arg(&out).args(sums).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    out
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> Output {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output));
    output
}

fn write_program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok()
}

/// A release in a folder, and a person's home to install it in.
struct Release {
    directory: Directory,
    script: String,
}

impl Release {
    fn new() -> Release {
        let directory = Directory::new();
        let script = fs::read_to_string(filled(&directory, None).join("get.sh")).unwrap();
        let release = Release { directory, script };
        release.publish("1.0");
        release
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("latest/download")
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    fn installed(&self) -> PathBuf {
        self.home().join(".local/bin/langfast2api")
    }

    /// The archive's name for this machine.
    fn archive() -> String {
        let kind = match std::env::consts::ARCH {
            "riscv64" => "riscv64gc",
            "arm" => "armv7",
            arch => arch,
        };
        format!("langfast2api-linux-{kind}.tar.gz")
    }

    /// Puts a version of a program, and a script that says how it was called, in an archive with its checksum.
    fn publish(&self, version: &str) {
        self.publish_program(&format!("echo langfast2api {version}"));
    }

    fn publish_program(&self, script: &str) {
        let (from, files) = (self.directory.path().join("from"), self.files());
        fs::create_dir_all(&files).unwrap();
        write_program(&from.join("langfast2api"), script);
        write_program(&from.join("scripts/install.sh"), r#"echo "install.sh got ${1##*/} ${2-}""#);
        let archive = files.join(Release::archive());
        run("tar", &["-czf", archive.to_str().unwrap(), "langfast2api", "scripts"], &from);
        let sums = run("sha256sum", &[&Release::archive()], &files);
        fs::write(files.join("SHA256SUMS"), sums.stdout).unwrap();
    }

    fn get(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let root = self.directory.path();
        fs::create_dir_all(self.home()).unwrap();
        write_program(&root.join("stubs/sudo"), "exec \"$@\"");
        let path = format!("{}:{}", root.join("stubs").display(), std::env::var("PATH").unwrap());
        fs::write(root.join("get.sh"), &self.script).unwrap();
        let mut shell = Command::new("sh");
        shell.arg(root.join("get.sh")).args(arguments).env("HOME", self.home()).env("PATH", path);
        shell.env("LANGFAST2API_RELEASES", format!("file://{}", root.display()));
        shell
    }

    /// What it says, having failed and installed nothing.
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.get(arguments);
        assert!(!output.status.success(), "{}", text(&output));
        assert!(!self.installed().exists());
        text(&output)
    }

    /// What it says, having done it.
    fn success(&self, arguments: &[&str]) -> String {
        let output = self.get(arguments);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }
}

#[test]
fn each_file_for_another_system_has_the_version_and_the_address_of_cargo_toml() {
    let directory = Directory::new();
    let sums = directory.path().join("SHA256SUMS");
    let kinds = ["x86_64", "aarch64", "armv7", "riscv64gc"];
    let lines = kinds.iter().enumerate().map(|(at, kind)| {
        let sum = at.to_string().repeat(64);
        format!("{sum}  langfast2api-linux-{kind}.tar.gz\n")
    });
    fs::write(&sums, lines.collect::<String>()).unwrap();
    let out = filled(&directory, Some(&sums));
    let read = |file: &str| fs::read_to_string(out.join(file)).unwrap();
    let (version, address) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_REPOSITORY"));
    let image = address.splitn(4, '/').last().unwrap().to_lowercase();
    for (file, wanted) in [
        ("PKGBUILD", vec![format!("pkgver={version}\n"), format!("url='{address}'")]),
        (
            "langfast2api.rb",
            vec![format!("version \"{version}\""), format!("homepage \"{address}\"")],
        ),
        (
            "openwrt/Makefile",
            vec![format!("PKG_VERSION:={version}\n"), format!("URL:={address}\n")],
        ),
        ("compose.yaml", vec![format!("image: ghcr.io/{image}:{version}\n")]),
        ("get.sh", vec![format!("repository='{address}'")]),
    ] {
        for wanted in wanted {
            assert!(read(file).contains(&wanted), "{file} has no {wanted}");
        }
    }
    for (file, kinds) in [("PKGBUILD", 4), ("langfast2api.rb", 2), ("openwrt/Makefile", 4)] {
        for sum in 0..kinds {
            assert!(read(file).contains(&sum.to_string().repeat(64)), "{file}: {sum}");
        }
    }
    for file in ["PKGBUILD", "langfast2api.rb", "openwrt/Makefile", "compose.yaml", "get.sh"] {
        let blank = read(file).split('@').skip(1).any(|rest| rest.starts_with(char::is_uppercase));
        assert!(!blank, "{file} has a blank that is not filled in");
    }
    fs::write(&sums, "").unwrap();
    let fill = repository().join("scripts/packages/fill");
    let output = Command::new(fill).arg("--out").arg(&out).arg(&sums).output().unwrap();
    assert!(!output.status.success(), "a release without an archive is no release");
}

/// Names of archives are written in several places: what releases make is what the others fetch.
#[test]
fn all_fetch_the_archives_that_a_release_makes() {
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    let release = read(".github/workflows/release.yml");
    assert!(release.contains("archive \"$binary\" \"release/langfast2api-linux-$ARCH.tar.gz\""));
    for kind in ["x86_64", "aarch64", "armv7", "riscv64gc"] {
        assert!(
            release.contains(&format!("arch: {kind}, target: {kind}-unknown-linux-musl")),
            "{kind}"
        );
    }
    let url =
        "{ repo }/releases/download/v{ version }/{ name }-{ target-family }-{ target-arch }.tar.gz";
    assert!(read("Cargo.toml").contains(&format!("pkg-url = \"{url}\"")));
}

#[test]
fn an_archive_has_all_that_it_takes_to_install_and_what_the_pages_name() {
    let directory = Directory::new();
    let (binary, archive) = (directory.path().join("built"), directory.path().join("a.tar.gz"));
    write_program(&binary, "echo langfast2api");
    let pack = repository().join("scripts/packages/archive");
    run(pack.to_str().unwrap(), &["built", "a.tar.gz"], directory.path());
    let unpacked = directory.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    run("tar", &["-xzf", archive.to_str().unwrap()], &unpacked);
    let root = directory.path().join("root");
    run("sh", &["-c", "DESTDIR=../root scripts/install.sh langfast2api"], &unpacked);
    for file in ["usr/local/bin/langfast2api", "etc/langfast2api/api-keys"] {
        assert!(root.join(file).exists(), "{file}");
    }
    let pages = ["README.md", "README.zh-CN.md", "scripts/README.md", "scripts/README.zh-CN.md"];
    let more = ["src/README.md", "tests/README.md", "LICENSE", "scripts/nginx.conf"];
    for file in pages.into_iter().chain(more) {
        assert!(unpacked.join(file).exists(), "{file}");
    }
}

#[test]
fn the_flake_takes_version_and_address_from_cargo_toml() {
    let flake = fs::read_to_string(repository().join("scripts/packages/flake.nix")).unwrap();
    assert!(flake.contains("builtins.readFile ../../Cargo.toml"));
    assert!(!flake.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_release_is_got_upgraded_and_removed_without_root() {
    let release = Release::new();
    let said = release.success(&[]);
    assert!(
        said.contains("langfast2api 1.0 is in ") && said.contains("not in your PATH"),
        "{said}"
    );
    let mode = fs::metadata(release.installed()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert!(release.success(&[]).contains("langfast2api 1.0 is in"), "twice does no harm");
    assert!(release.success(&[]).contains("already"));
    release.publish("1.1");
    assert!(release.success(&[]).contains("langfast2api 1.1 is in"));
    assert!(text(&run(release.installed().to_str().unwrap(), &[], Path::new("/"))).contains("1.1"));
    release.success(&["--uninstall"]);
    assert!(!release.installed().exists());
    assert!(release.refusal(&["--uninstall"]).contains("there is no "));
}

#[test]
fn what_a_release_does_not_vouch_for_is_not_installed() {
    let release = Release::new();
    let archive = release.files().join(Release::archive());
    let mut bytes = fs::read(&archive).unwrap();
    bytes.push(0);
    fs::write(&archive, bytes).unwrap();
    assert!(release.refusal(&[]).contains("is not what the release's checksums say"));
    fs::write(release.files().join("SHA256SUMS"), "").unwrap();
    assert!(release.refusal(&[]).contains("do not name"));
    release.publish_program("exit 1");
    assert!(release.refusal(&[]).contains("does not run on this machine"));
    fs::remove_file(archive).unwrap();
    assert!(release.refusal(&[]).contains("the release has no"));
    assert!(release.refusal(&["--version", "9.9"]).contains("there is no release at"));
    assert!(release.refusal(&["--purge"]).contains("usage:"));
}

#[test]
fn half_a_script_does_nothing() {
    let mut release = Release::new();
    let whole = release.script.clone();
    for part in [3, 2] {
        release.script = whole[..whole.len() * (part - 1) / part].to_owned();
        release.get(&[]);
        assert!(!release.installed().exists());
    }
    release.script = whole[..whole.rfind("main \"$@\"").unwrap()].to_owned();
    release.get(&[]);
    assert!(!release.installed().exists());
}

#[test]
fn a_service_is_installed_and_removed_by_the_releases_own_script_as_root() {
    let release = Release::new();
    assert!(release.success(&["--service"]).contains("install.sh got langfast2api"));
    let without_home = release.command(&["--service"]).env_remove("HOME").output().unwrap();
    assert!(without_home.status.success(), "{}", text(&without_home));
    let of_nobody = text(&release.command(&[]).env_remove("HOME").output().unwrap());
    assert!(of_nobody.contains("name a directory (--dir)"), "{of_nobody}");
    let said = release.success(&["--uninstall", "--service", "--purge"]);
    assert!(said.contains("install.sh got --remove --purge"), "{said}");
    assert!(!release.installed().exists());
}

#[test]
fn a_signed_releases_checksums_need_the_right_signature() {
    if !is_there("minisign") {
        assert_ne!(std::env::var("REQUIRE_MINISIGN").as_deref(), Ok("1"), "minisign is not there");
        return;
    }
    let mut release = Release::new();
    let files = release.files();
    let make = |name: &str| {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
        run("minisign", &["-G", "-f", "-W", "-p", &public, "-s", &secret], &files);
        let public = fs::read_to_string(files.join(public)).unwrap();
        public.lines().last().unwrap().to_owned()
    };
    let (key, _other) = (make("own"), make("other"));
    release.script = release.script.replace("public_key=''", &format!("public_key='{key}'"));
    let sign = |name: &str| {
        run("minisign", &["-S", "-s", &format!("{name}.key"), "-m", "SHA256SUMS"], &files)
    };
    assert!(release.refusal(&[]).contains("the signature of the release is not there"));
    sign("other");
    assert!(release.refusal(&[]).contains("the signature of the release is wrong"));
    sign("own");
    assert!(release.success(&[]).contains("langfast2api 1.0 is in"));
    // Other checksums under the old signature.
    release.success(&["--uninstall"]);
    release.publish("1.1");
    assert!(release.refusal(&[]).contains("the signature of the release is wrong"));
}

#[test]
fn a_package_for_openwrt_holds_the_program_and_its_service() {
    let directory = Directory::new();
    let binary = directory.path().join("langfast2api");
    write_program(&binary, "echo hello");
    let ipk = repository().join("scripts/packages/ipk");
    let made =
        run(ipk.to_str().unwrap(), &["test_arch", binary.to_str().unwrap()], directory.path());
    let package = repository().join(text(&made).trim());
    run("tar", &["-xzf", package.to_str().unwrap()], directory.path());
    fs::remove_file(package).unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("debian-binary")).unwrap(), "2.0\n");
    let listed = |archive: &str| text(&run("tar", &["-tvzf", archive], directory.path()));
    let data = listed("data.tar.gz");
    for wanted in ["usr/bin/langfast2api", "etc/init.d/langfast2api", "etc/config/langfast2api"] {
        assert!(data.contains(wanted), "{data}");
    }
    assert!(data.lines().all(|line| line.contains(" 0/0 ")), "all is root's: {data}");
    run("tar", &["-xzf", "control.tar.gz"], directory.path());
    let control = fs::read_to_string(directory.path().join("control")).unwrap();
    assert!(control.contains("Architecture: test_arch\n"), "{control}");
    assert!(control.contains(concat!("Version: ", env!("CARGO_PKG_VERSION"), "-1\n")), "{control}");
}
