//! The rooms of the program know only those below them, in the order in which `src/lib.rs` lists them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every source file, with its path below `src`.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => walk(&path, found),
                path if path.extension().is_some_and(|kind| kind == "rs") => found.push(path),
                _ => {}
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&src).unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

/// The rooms as the map in `lib.rs` lists them, top to bottom.
fn order() -> Vec<String> {
    let (_, map) = sources().into_iter().find(|(path, _)| path == Path::new("lib.rs")).unwrap();
    let rows = map.split("//! ```text\n").nth(1).unwrap().split("//! ```").next().unwrap();
    let room = |row: &str| row.trim_start_matches("//! ").split(' ').next().unwrap().to_owned();
    rows.lines().map(room).collect()
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a file's code names, its tests and comments left out.
fn known(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut rooms = BTreeSet::new();
    for prefix in ["crate::", "langfast2api::"] {
        for (at, _) in code.match_indices(prefix) {
            let name = &code[at + prefix.len()..];
            assert!(!name.starts_with('{'), "name one room in each `use`: {name:.60}");
            let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            rooms.insert(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    rooms
}

#[test]
fn no_room_knows_one_above_it() {
    let order = order();
    let rank = |room: &str| order.iter().position(|name| name == room);
    let mut upwards = Vec::new();
    for (path, text) in sources() {
        let room = room_of(&path);
        if ["lib", "memory"].contains(&room.as_str()) {
            continue;
        }
        let own = rank(&room).unwrap_or_else(|| panic!("lib.rs does not list {room}"));
        for other in known(&text) {
            let below = rank(&other).unwrap_or_else(|| panic!("lib.rs does not list {other}"));
            if below < own {
                upwards.push(format!("{} knows {other}", path.display()));
            }
        }
    }
    assert!(upwards.is_empty(), "imports run one way, and these do not:\n{}", upwards.join("\n"));
}

/// Whatever their order: each could be changed for another without touching the other.
#[test]
fn dialects_and_the_way_their_events_travel_do_not_know_each_other() {
    for (path, text) in sources() {
        let (room, known) = (room_of(&path), known(&text));
        for (one, other) in [("dialects", "http"), ("http", "dialects")] {
            assert!(room != one || !known.contains(other), "{} knows {other}", path.display());
        }
    }
}

#[test]
fn every_room_says_what_it_may_not_know() {
    for (path, text) in sources() {
        let is_head = path.components().count() == 1 && path.with_extension("") != path;
        let is_room =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room_of(&path)).is_dir();
        if is_head && is_room {
            let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            let head = head.replace("//!", "");
            for words in ["Enters: ", "Leaves: ", " may "] {
                assert!(head.contains(words), "{}: {words}", path.display());
            }
        }
    }
}
