//! The real nginx, Caddy and HAProxy, with the configurations that are shipped, and a client that talks TLS to
//! them.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use native_tls::{Certificate, TlsConnector, TlsStream};

use crate::support::websocket::{self, Refused};
use crate::support::{Directory, Response, free_address, read_chunk, wait_until};

/// A WebSocket's client behind a proxy.
pub type Socket = websocket::Client<TlsStream<TcpStream>>;

/// The name in the shipped configurations, and so in the certificate.
pub const NAME: &str = "api.example.com";

/// Longest that a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The proxies that a configuration is shipped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Caddy,
    Haproxy,
}

impl Kind {
    /// Those that are installed.
    ///
    /// Panics if one is not and `REQUIRE_PROXIES=1` says that it has to be.
    pub fn installed() -> Vec<Kind> {
        let required = std::env::var("REQUIRE_PROXIES").is_ok_and(|value| value == "1");
        let is_there = |kind: &Kind| {
            let there = kind.binary().is_some();
            let why = format!("{} is not installed: not tested behind it", kind.name());
            assert!(there || !required, "{why}");
            if !there {
                println!("{why}");
            }
            there
        };
        [Kind::Nginx, Kind::Caddy, Kind::Haproxy].into_iter().filter(is_there).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::Caddy => "caddy",
            Kind::Haproxy => "haproxy",
        }
    }

    fn binary(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path);
        // Where Debian has nginx; not every user's PATH has it.
        let directories = directories.chain([PathBuf::from("/usr/sbin")]);
        directories.map(|directory| directory.join(self.name())).find(|file| file.is_file())
    }

    /// The shipped configuration.
    fn shipped(self) -> &'static str {
        match self {
            Kind::Nginx => include_str!("../../scripts/nginx.conf"),
            Kind::Caddy => include_str!("../../scripts/Caddyfile"),
            Kind::Haproxy => include_str!("../../scripts/haproxy.cfg"),
        }
    }

    /// What a person would fill in: where to listen, the certificate, where the program is.
    fn values(self, files: &Files, listen: SocketAddr, upstream: SocketAddr) -> Vec<[String; 2]> {
        let (certificate, key) = (files.certificate(), files.key());
        let value = |shipped: &str, own: String| [shipped.to_owned(), own];
        match self {
            Kind::Nginx => vec![
                value("server 127.0.0.1:8000;", format!("server {upstream};")),
                value("listen 443 ssl;", format!("listen {listen} ssl;")),
                value("listen [::]:443 ssl;", String::new()),
                value(
                    "/etc/letsencrypt/live/api.example.com/fullchain.pem",
                    certificate.display().to_string(),
                ),
                value(
                    "/etc/letsencrypt/live/api.example.com/privkey.pem",
                    key.display().to_string(),
                ),
            ],
            Kind::Caddy => vec![
                value("reverse_proxy 127.0.0.1:8000 {", format!("reverse_proxy {upstream} {{")),
                value(
                    "\napi.example.com {",
                    format!("\napi.example.com:{} {{\n\tbind {}", listen.port(), listen.ip()),
                ),
                value(
                    "# tls /path/of/fullchain.pem /path/of/privkey.pem",
                    format!("tls {} {}", certificate.display(), key.display()),
                ),
            ],
            Kind::Haproxy => vec![
                value("bind :443 ssl", format!("bind {listen} ssl")),
                value("/etc/haproxy/api.example.com.pem", files.both().display().to_string()),
                value("server one 127.0.0.1:8001 ", format!("server one {upstream} ")),
                value("    server two 127.0.0.1:8002", "    #server two 127.0.0.1:8002".to_owned()),
                value("log /dev/log local0", "log stderr format raw local0".to_owned()),
            ],
        }
    }

    /// What is around the shipped configuration. nginx compresses what it can there, as Debian's
    /// does in part: a stream must not suffer from it.
    fn surroundings(self, directory: &Path) -> String {
        let directory = directory.display();
        match self {
            Kind::Nginx => format!(
                "daemon off;
                master_process off;
                pid {directory}/pid;
                error_log stderr info;
                events {{}}
                http {{
                    access_log {directory}/access.log;
                    client_body_temp_path {directory}/body;
                    proxy_temp_path {directory}/proxy;
                    fastcgi_temp_path {directory}/fastcgi;
                    uwsgi_temp_path {directory}/uwsgi;
                    scgi_temp_path {directory}/scgi;
                    gzip on;
                    gzip_proxied any;
                    gzip_types *;
                    gzip_min_length 1;
                    include {directory}/site;
                }}"
            ),
            // Without redirects: they would need port 80.
            Kind::Caddy => format!(
                "{{\n\tadmin off\n\tauto_https disable_redirects\n}}\nimport {directory}/site\n"
            ),
            // It takes the shipped configuration as it is.
            Kind::Haproxy => String::new(),
        }
    }

    fn command(self, files: &Files, is_check: bool) -> Command {
        let directory = files.0.path();
        let mut command = Command::new(self.binary().expect("an installed proxy"));
        match self {
            Kind::Nginx => {
                command.args(["-e", "stderr", "-p"]).arg(directory).arg("-c").arg(files.main());
                if is_check {
                    command.arg("-t");
                }
            }
            Kind::Caddy => {
                command.arg(if is_check { "validate" } else { "run" });
                command.args(["--adapter", "caddyfile", "--config"]).arg(files.main());
                for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
                    command.env(name, directory);
                }
            }
            Kind::Haproxy => {
                command.arg(if is_check { "-c" } else { "-db" });
                command.arg("-f").arg(directory.join("site"));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// What a proxy needs: its configuration, a certificate, a place to write.
struct Files(Directory);

impl Files {
    /// The shipped configuration with its marked values filled in, and further `changes`.
    fn new(
        kind: Kind,
        listen: SocketAddr,
        upstream: SocketAddr,
        changes: &[(&str, &str)],
    ) -> Files {
        let files = Files(Directory::new());
        files.make_certificate();
        let mut site = kind.shipped().to_owned();
        let values = kind.values(&files, listen, upstream);
        let changes = changes.iter().map(|(shipped, own)| [shipped.to_string(), own.to_string()]);
        for [shipped, own] in values.into_iter().chain(changes) {
            assert_eq!(site.matches(&shipped).count(), 1, "{shipped:?} in {site}");
            site = site.replace(&shipped, &own);
        }
        fs::write(files.0.path().join("site"), site).unwrap();
        fs::write(files.main(), kind.surroundings(files.0.path())).unwrap();
        files
    }

    fn make_certificate(&self) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-noenc", "-days", "2", "-subj", "/CN=langfast2api test"])
            .args(["-addext", &format!("subjectAltName=DNS:{NAME}")])
            .arg("-keyout")
            .arg(self.key())
            .arg("-out")
            .arg(self.certificate())
            .output()
            .expect("the command openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let both = [fs::read(self.certificate()).unwrap(), fs::read(self.key()).unwrap()];
        fs::write(self.both(), both.concat()).unwrap();
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("main")
    }

    fn certificate(&self) -> PathBuf {
        self.0.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    /// Certificate and key in one file.
    fn both(&self) -> PathBuf {
        self.0.path().join("both.pem")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }
}

/// What the proxy itself says of the shipped configuration: whether it is sound, and its words.
pub fn check(kind: Kind) -> (bool, String) {
    let files = Files::new(kind, free_address(), free_address(), &[]);
    let output = kind.command(&files, true).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// A running proxy; it is killed when this is dropped.
pub struct Proxy {
    kind: Kind,
    child: Child,
    address: SocketAddr,
    connector: TlsConnector,
    files: Files,
}

impl Proxy {
    /// With the shipped configuration, in front of the program at `upstream`.
    pub fn start(kind: Kind, upstream: SocketAddr) -> Proxy {
        Proxy::start_with(kind, upstream, &[])
    }

    /// With something else in the shipped configuration too.
    pub fn start_with(kind: Kind, upstream: SocketAddr, changes: &[(&str, &str)]) -> Proxy {
        let address = free_address();
        let files = Files::new(kind, address, upstream, changes);
        let mut command = kind.command(&files, false);
        command.stderr(File::create(files.log()).unwrap());
        let child = command.spawn().expect("the proxy starts");
        let certificate = Certificate::from_pem(&fs::read(files.certificate()).unwrap()).unwrap();
        let connector = TlsConnector::builder().add_root_certificate(certificate).build().unwrap();
        let mut proxy = Proxy { kind, child, address, connector, files };
        wait_until("the proxy", || {
            assert_eq!(proxy.child.try_wait().unwrap(), None, "the proxy has ended");
            TcpStream::connect(address).is_ok()
        });
        proxy
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(self.connector.connect(NAME, stream).unwrap()) }
    }

    /// Sends a request on a connection of its own and leaves the answer to be read.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Client {
        let mut client = self.connect();
        client.send(method, path, headers, body);
        client
    }

    /// Opens a WebSocket.
    pub fn websocket(&self, headers: &[(&str, &str)]) -> Result<Socket, Refused> {
        let stream = self.connect().stream.into_inner();
        websocket::Client::on(stream, &format!("wss://{NAME}/v1/responses"), headers)
    }

    /// One request on a connection of its own; the whole answer.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        self.send(method, path, headers, body).response()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.files.log()).unwrap_or_default();
            eprintln!("behind {}, whose log is:\n{log}", self.kind.name());
        }
    }
}

/// A client's connection to a proxy.
pub struct Client {
    stream: BufReader<TlsStream<TcpStream>>,
}

impl Client {
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        self.send_to(NAME, method, path, headers, body);
    }

    /// The same for another `Host`.
    pub fn send_to(&mut self, host: &str, method: &str, path: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is too long may be cut off; what counts is the answer that has been given.
        let _ = stream.write_all(body);
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> Response {
        Response::head_from(&mut self.stream)
    }

    /// Reads the next chunk of a chunked body; `None` at its end, an error if it is cut. Chunks are the
    /// proxy's own, and may end inside a character.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        read_chunk(&mut self.stream)
    }

    /// Reads up to a chunk that ends with `end`, but no further.
    pub fn read_to(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            bytes.extend(self.chunk().unwrap().expect("more of the body"));
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Reads a whole answer.
    pub fn response(&mut self) -> Response {
        Response::read_from(&mut self.stream)
    }
}
