//! Many connections at once, and more than there may be.

use std::fs::File;
use std::os::fd::OwnedFd;

use langfast2api::http::{Limits, connections_for, raise_descriptor_limit};

use super::client::connect;
use super::post;
use super::server::{Server, front_alone};

#[test]
fn two_hundred_keep_alive_clients_in_one_burst_are_all_served() {
    let server = Server::start(Limits::default());
    let mut clients: Vec<_> = (0..200).map(|_| server.client()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(post("/echo", &format!("client {n}, round {round}")));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.answer().body, format!("client {n}, round {round}").as_bytes());
        }
    }
    assert_eq!(server.front.connections(), 200);
}

#[test]
fn a_request_is_served_beside_a_thousand_idle_connections() {
    raise_descriptor_limit();
    let server = Server::start(Limits { connections: 2000, ..Limits::default() });
    let idle: Vec<_> = (0..1000).map(|_| server.client()).collect();
    server.wait_for_connections(1000);
    server.serves();
    drop(idle);
    server.wait_for_connections(0);
}

#[test]
fn requests_are_served_beside_five_hundred_slow_heads() {
    raise_descriptor_limit();
    let server = Server::start(Limits { connections: 2000, ..Limits::default() });
    let mut slow: Vec<_> = (0..500).map(|_| server.client()).collect();
    slow.iter_mut().for_each(|client| client.send("GET /hello HTTP/1.1\r\nHost"));
    server.wait_for_connections(500);
    (0..20).for_each(|_| server.serves());
    for client in &mut slow {
        client.send(": h\r\n\r\n");
        assert_eq!(client.answer().body, b"hello");
    }
}

#[test]
fn a_client_over_the_limit_is_told_so_at_once() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() });
    let first = server.client();
    let _second = server.client();
    server.wait_for_connections(2);
    for request in ["", "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut third = server.client();
        third.try_send(request);
        let answer = third.answer();
        assert_eq!((answer.status, &*answer.fields["retry-after"]), (503, "1"));
        third.ends();
    }
    drop(first);
    server.wait_for_connections(1);
    server.serves();
}

/// Runs a test of this file by itself in a process with only so many descriptors.
fn in_a_process_with_descriptors(limit: u64, test: &str) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if std::env::var_os("FRONT_TEST_ALONE").is_some() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("FRONT_TEST_ALONE", "yes")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    false
}

#[test]
fn want_of_descriptors_does_not_end_the_accept_loop() {
    if !in_a_process_with_descriptors(
        64,
        "front::crowds::want_of_descriptors_does_not_end_the_accept_loop",
    ) {
        return;
    }
    let (front, address) = front_alone();
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for _ in 0..5 {
        // The client is in this process too, and takes the only free descriptor.
        files.pop().unwrap();
        let mut client = connect(address);
        let answer = client.answer();
        assert_eq!((answer.status, &*answer.fields["retry-after"]), (503, "1"));
        // Kept, so that there is again none.
        files.push(File::from(OwnedFd::from(client.stream)));
    }
    drop(files);
    let mut client = connect(address);
    client.send("GET /secret HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 401);
    assert_eq!(front.connections(), 1);
}

#[test]
fn connections_are_bounded_by_descriptors() {
    assert_eq!(connections_for(0), 1);
    assert_eq!(connections_for(1024), 320);
    assert_eq!(connections_for(u64::MAX), (usize::MAX - 64) / 3);
}
