//! The sockets to serve on: those that systemd has passed on, else those that the setting names.

use std::fmt;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{error, fs, fs::Permissions};

use crate::config::{BadSetting, ServingSettings};
use crate::http::Listener;
use crate::server::access::Access;

/// The beginning of a Unix socket's address.
const UNIX: &str = "unix:";

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// The listeners, their addresses in words, and the files to remove at the end.
#[derive(Default)]
pub struct Listening {
    /// The listeners, at least one.
    pub listeners: Vec<Listener>,
    /// Their addresses, for people to read.
    pub addresses: Vec<String>,
    /// The files of our Unix sockets. They are removed when this is dropped.
    _files: Vec<SocketFile>,
}

/// Listens where systemd says, else where the setting does. Without a key none of them may be reachable
/// from other machines.
///
/// # Errors
/// [`BadSetting`] for an address that cannot be used, or must not; else what the system says.
pub fn listen(settings: &ServingSettings, access: &Access) -> Result<Listening> {
    let mut listening = inherited()?;
    if listening.listeners.is_empty() {
        for address in places(settings)? {
            let failed =
                |e: io::Error| format!("cannot listen on {address}: {e}{}", next_step(&e, address));
            match UnixPlace::of(address) {
                Some(place) => listening.bind_unix(&place?, settings, address)?,
                None => {
                    let listener = TcpListener::bind(address).map_err(failed)?;
                    listening.add(Listener::Tcp(listener))?;
                }
            }
        }
    }
    for listener in &listening.listeners {
        if let Listener::Tcp(listener) = listener {
            access.check_address(listener.local_addr()?)?;
        }
    }
    Ok(listening)
}

/// Checks that the addresses could be listened on, without doing so. If systemd has passed sockets on, only
/// the spelling of the addresses is checked.
///
/// # Errors
/// Names the setting, and the first address that cannot be used, or must not.
pub fn check(settings: &ServingSettings, access: &Access) -> std::result::Result<(), BadSetting> {
    let places = places(settings)?;
    if are_passed_on() {
        return Ok(());
    }
    places.into_iter().try_for_each(|address| check_place(settings, address, access))
}

fn check_place(
    settings: &ServingSettings,
    address: &str,
    access: &Access,
) -> std::result::Result<(), BadSetting> {
    if let Some(place) = UnixPlace::of(address) {
        let place = place.map_err(|why| cannot_listen(settings, address, &why))?;
        let path = place.path;
        place.group_id().map_err(|why| cannot_listen(settings, address, &why))?;
        check_no_other_file(path, settings, address)?;
        return match path.parent() {
            Some(directory) if directory.as_os_str().is_empty() || directory.is_dir() => Ok(()),
            _ => Err(cannot_listen(
                settings,
                address,
                &"no such directory; make it, or name another path",
            )),
        };
    }
    match address.to_socket_addrs() {
        Ok(mut found) => found.try_for_each(|address| access.check_address(address)),
        // At boot names may be known only later: the start fails then, and systemd tries again, as it
        // does not after a bad setting.
        Err(error) => {
            let why = format!("{error}{}", next_step(&error, address));
            log::warn!("{}", cannot_listen(settings, address, &why));
            Ok(())
        }
    }
}

/// The addresses as they are written, each of a form that can be used, and each once.
fn places(settings: &ServingSettings) -> std::result::Result<Vec<&str>, BadSetting> {
    let mut places: Vec<&str> = Vec::new();
    for address in settings.listen.iter().map(|address| address.trim()) {
        let fault = match places.contains(&address) && !address.ends_with(":0") {
            true => Some("it stands there twice"),
            false => form_fault(address),
        };
        if let Some(fault) = fault {
            return Err(cannot_listen(settings, address, &fault));
        }
        places.push(address);
    }
    Ok(places)
}

/// Why an address is neither `HOST:PORT` nor `unix:/path`.
fn form_fault(address: &str) -> Option<&'static str> {
    const FORM: &str = "write HOST:PORT or unix:/path/of/socket";
    if let Some(place) = UnixPlace::of(address) {
        return match place {
            Err(why) => Some(why),
            Ok(place) if place.path.as_os_str().is_empty() => Some(FORM),
            // About 107 bytes, and no zero byte in them.
            Ok(place) if UnixAddress::from_pathname(place.path).is_err() => {
                Some("the path is too long for a socket (107 bytes)")
            }
            Ok(_) => None,
        };
    }
    match address.rsplit_once(':') {
        _ if address.contains("://") => Some("write HOST:PORT, without a scheme"),
        _ if address.contains('/') => Some("write HOST:PORT, without a path"),
        Some((host, port)) if !host.is_empty() && !port.is_empty() => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            match (is_number, port.parse::<u16>()) {
                (true, Ok(_)) => None,
                (true, Err(_)) => Some("ports are 0 to 65535"),
                (false, _) => Some(FORM),
            }
        }
        _ => Some(FORM),
    }
}

/// Refuses a path at which there is a file that is no socket: it belongs to somebody and is not replaced.
fn check_no_other_file(
    path: &Path,
    settings: &ServingSettings,
    address: &str,
) -> std::result::Result<(), BadSetting> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(cannot_listen(
            settings,
            address,
            &"there is a file of this name that is no socket; it stays. Name another path",
        )),
        // What is not there is no hindrance, and whatever else it is, bind will say.
        _ => Ok(()),
    }
}

fn cannot_listen(settings: &ServingSettings, address: &str, why: &dyn fmt::Display) -> BadSetting {
    settings.given.bad("listen", format_args!("cannot listen on {address}: {why}"))
}

/// True if systemd has passed sockets on to this process.
fn are_passed_on() -> bool {
    let is = |name: &str, fits: &dyn Fn(u32) -> bool| {
        let value = std::env::var(name).ok().and_then(|value| value.parse().ok());
        value.is_some_and(fits)
    };
    is("LISTEN_PID", &|pid| pid == std::process::id()) && is("LISTEN_FDS", &|count| count > 0)
}

/// Sockets passed on by systemd (`LISTEN_FDS`).
fn inherited() -> Result<Listening> {
    let mut listening = Listening::default();
    let mut passed = listenfd::ListenFd::from_env();
    for at in 0..passed.len() {
        let listener = match passed.take_tcp_listener(at) {
            Ok(Some(tcp)) => Listener::Tcp(tcp),
            Ok(None) => continue,
            Err(_) => match passed.take_unix_listener(at)? {
                Some(unix) => Listener::Unix(unix),
                None => continue,
            },
        };
        listening.add(listener)?;
    }
    Ok(listening)
}

impl Listening {
    fn bind_unix(
        &mut self,
        place: &UnixPlace<'_>,
        settings: &ServingSettings,
        address: &str,
    ) -> Result<()> {
        let path = place.path;
        check_no_other_file(path, settings, address)?;
        let group = place.group_id().map_err(|why| cannot_listen(settings, address, &why))?;
        remove_stale(path);
        let failed =
            |e: io::Error| format!("cannot listen on {address}: {e}{}", next_step(&e, address));
        let listener = UnixListener::bind(path).map_err(failed)?;
        self._files.push(SocketFile::at(path).map_err(failed)?);
        place.admit(group).map_err(|why| format!("cannot listen on {address}: {why}"))?;
        self.add(Listener::Unix(listener))?;
        Ok(())
    }

    fn add(&mut self, listener: Listener) -> io::Result<()> {
        self.addresses.push(match &listener {
            Listener::Tcp(tcp) => format!("http://{}", tcp.local_addr()?),
            Listener::Unix(unix) => match unix.local_addr()?.as_pathname() {
                Some(path) => format!("unix:{}", path.display()),
                None => "a Unix socket".to_owned(),
            },
        });
        self.listeners.push(listener);
        Ok(())
    }
}

/// Says what to do when an address cannot be listened on.
fn next_step(error: &io::Error, address: &str) -> String {
    let port = address.rsplit_once(':').map_or("PORT", |(_, port)| port);
    match error.kind() {
        io::ErrorKind::AddrInUse if address.starts_with(UNIX) => {
            ". A program listens there: end it, or listen elsewhere (--listen)".to_owned()
        }
        io::ErrorKind::AddrInUse => format!(
            ". Another program listens there, perhaps this one (`ss -ltnp 'sport = :{port}'` says which): end \
             it, or listen elsewhere (--listen 127.0.0.1:0 takes a free port)"
        ),
        io::ErrorKind::AddrNotAvailable => {
            ". No network interface has this address; `ip address` shows those that there are"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            if address.starts_with(UNIX) =>
        {
            ". The user that this program runs as may not write that directory: name one that it may (of a \
             service, RuntimeDirectory= makes one)"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            ". Ports below 1024 are root's: take another one, and have a proxy in front".to_owned()
        }
        // The resolver's errors have no kind of their own.
        _ if error.raw_os_error().is_none() => {
            ". Is the name written right? 127.0.0.1 is this machine alone, 0.0.0.0 all its addresses"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// The path of a Unix socket, and who may connect to it: `unix:/path?mode=660&group=NAME`.
pub struct UnixPlace<'a> {
    /// The socket's file.
    pub path: &'a Path,
    /// Its mode, if it is set; else the process's umask decides.
    pub mode: Option<u32>,
    /// The name or the number of its group, if it is set.
    pub group: Option<&'a str>,
}

impl<'a> UnixPlace<'a> {
    /// Reads an address; `None` if it is not that of a Unix socket.
    pub fn of(address: &'a str) -> Option<std::result::Result<UnixPlace<'a>, &'static str>> {
        let rest = address.strip_prefix(UNIX)?;
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut place = UnixPlace { path: Path::new(path), mode: None, group: None };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            if let Err(why) = place.set(option) {
                return Some(Err(why));
            }
        }
        Some(Ok(place))
    }

    fn set(&mut self, option: &'a str) -> std::result::Result<(), &'static str> {
        match option.split_once('=') {
            Some(("mode", mode)) => match u32::from_str_radix(mode, 8) {
                Ok(bits @ 0o200..=0o777) => self.mode = Some(bits),
                _ => return Err("a socket's mode is three octal digits, such as 660"),
            },
            Some(("group", name)) if !name.is_empty() => self.group = Some(name),
            _ => {
                return Err(
                    "behind a socket's path stand mode=660 and group=NAME, as unix:/path?mode=660",
                );
            }
        }
        Ok(())
    }

    /// The group's number: groups are those of `/etc/group`.
    ///
    /// # Errors
    /// There is no such group.
    pub fn group_id(&self) -> std::result::Result<Option<u32>, String> {
        let Some(name) = self.group else { return Ok(None) };
        let of_line = |line: &str| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        };
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let id = name.parse().ok().or_else(|| groups.lines().find_map(of_line));
        id.map(Some).ok_or_else(|| format!("there is no group {name} in /etc/group"))
    }

    /// Sets the socket's group and mode. The group goes first, so that at no moment another group may
    /// connect.
    fn admit(&self, group: Option<u32>) -> std::result::Result<(), String> {
        if group.is_some() {
            chown(self.path, None, group).map_err(|error| {
                format!(
                    "its group cannot be {}: {error}. The user that this program runs as has to be of that group \
                     (in a unit of systemd: SupplementaryGroups={0})",
                    self.group.unwrap_or_default()
                )
            })?;
        }
        let mode = self.mode.map(Permissions::from_mode);
        mode.map_or(Ok(()), |mode| fs::set_permissions(self.path, mode)).map_err(|e| e.to_string())
    }
}

/// Removes a socket of this user's that a killed process has left behind; one that answers stays.
fn remove_stale(path: &Path) {
    let is_ours = fs::symlink_metadata(path).is_ok_and(|found| {
        found.file_type().is_socket() && found.uid() == rustix::process::geteuid().as_raw()
    });
    let refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    if is_ours && UnixStream::connect(path).as_ref().is_err_and(refused) {
        // If this fails, so will bind, and say why.
        let _ = fs::remove_file(path);
    }
}

/// The file of a socket that we have made. It is removed when this is dropped, unless another has taken
/// its place.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Whoever removes it in this moment spares us the work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str) -> ServingSettings {
        crate::config::Settings::of_flags(&["--listen", address]).serving
    }

    fn fault(address: &str) -> String {
        check(&settings(address), &Access::default()).unwrap_err().0
    }

    #[test]
    fn addresses_that_are_none_are_refused_by_the_settings_name() {
        let too_long = format!("unix:/tmp/{}", "x".repeat(120));
        for (address, why) in [
            ("8000", "write HOST:PORT"),
            ("", "write HOST:PORT"),
            (":8000", "write HOST:PORT"),
            ("127.0.0.1:", "write HOST:PORT"),
            ("127.0.0.1:http", "write HOST:PORT"),
            ("127.0.0.1:65536", "ports are 0 to 65535"),
            ("http://127.0.0.1:8000", "without a scheme"),
            ("127.0.0.1:8000/v1", "without a path"),
            ("127.0.0.1:8000,127.0.0.1:8000", "twice"),
            ("unix:", "write HOST:PORT or unix:"),
            ("unix:?mode=660", "write HOST:PORT or unix:"),
            ("unix:/tmp/s?mode=8", "three octal digits"),
            ("unix:/tmp/s?mode=1777", "three octal digits"),
            ("unix:/tmp/s?owner=me", "mode=660 and group=NAME"),
            ("unix:/tmp/s?group=", "mode=660 and group=NAME"),
            ("unix:/tmp/s?group=no-such-group", "no group no-such-group"),
            ("unix:/nowhere/at/all/socket", "no such directory"),
            (&too_long, "too long"),
        ] {
            let fault = fault(address);
            assert!(fault.starts_with("--listen: cannot listen on "), "{fault}");
            assert!(fault.contains(why), "{fault}");
        }
        for sound in ["127.0.0.1:8000", " [::1]:0 ", "127.0.0.1:0,127.0.0.1:0"] {
            assert_eq!(check(&settings(sound), &Access::default()), Ok(()), "{sound}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_now_is_no_bad_setting() {
        let settings = settings("name.invalid:8000");
        assert!(check(&settings, &Access::default()).is_ok());
        let failed = listen(&settings, &Access::default()).err().expect("nothing to listen on");
        assert!(!failed.is::<BadSetting>());
    }

    #[test]
    fn a_file_that_is_no_socket_is_no_place_to_listen() {
        let file = std::env::temp_dir().join(format!("langfast2api-{}", uuid::Uuid::new_v4()));
        fs::write(&file, "precious").unwrap();
        let address = format!("unix:{}", file.display());
        assert!(fault(&address).contains("no socket"));
        let refused = listen(&settings(&address), &Access::default()).err().expect("refused");
        assert!(refused.is::<BadSetting>());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_socket_has_the_mode_and_the_group_that_it_is_given() {
        let path = std::env::temp_dir().join(format!("langfast2api-{}", uuid::Uuid::new_v4()));
        let own = rustix::process::getegid().as_raw();
        let address = format!("unix:{}?mode=620&group={own}", path.display());
        let listening = listen(&settings(&address), &Access::default()).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (0o620, own));
        assert_eq!(listening.addresses, [format!("unix:{}", path.display())]);
        drop(listening);
        assert!(!path.exists());
    }

    #[test]
    fn who_cannot_listen_is_told_what_to_do() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let failed =
            listen(&settings(&taken.to_string()), &Access::default()).err().expect("taken");
        let failed = failed.to_string();
        assert!(failed.contains(&format!("sport = :{}", taken.port())), "{failed}");
        let nowhere = listen(&settings("192.0.2.1:0"), &Access::default());
        assert!(nowhere.err().expect("no such address").to_string().contains("interface"));
    }

    #[test]
    fn a_socket_that_another_has_taken_the_place_of_is_not_removed() {
        let path = std::env::temp_dir().join(format!("langfast2api-{}", uuid::Uuid::new_v4()));
        let settings = settings(&format!("unix:{}", path.display()));
        let ours = listen(&settings, &Access::default()).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);
        // That one is stale now.
        drop(listen(&settings, &Access::default()).unwrap());
        assert!(!path.exists());
    }
}
