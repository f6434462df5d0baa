//! Properties that hold however the threads are interleaved (see [`crate::sync`]). That nobody waits
//! for ever is part of each: shuttle reports a deadlock. A panic within a renewal is left to
//! `renewals::tests`, since shuttle's primitives do not work while a thread unwinds.

use std::sync::Arc;

use shuttle::thread;

use super::*;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Interleavings that each test tries.
const TRIES: usize = 5_000;

/// How long a grant lasts, in seconds.
const HOUR: u64 = 3600;

/// The renewals under test, and stand-ins for LangFast and the session file.
#[derive(Default)]
struct World {
    renewals: Renewals,
    inside: AtomicBool,
    /// How many renewals have begun.
    begun: AtomicUsize,
    /// The signed-in user, according to the session file.
    user: AtomicUsize,
    /// The session file's access token, where it counts.
    kept: AtomicUsize,
    /// Whether the session file holds a prompt.
    has_prompt: AtomicBool,
}

impl World {
    /// Makes a renewal while nobody else makes one; the grant's access token is the renewal's number.
    fn obtain(&self, lifetime: u64) -> Obtained {
        assert!(!self.inside.swap(true, SeqCst), "two renew at once");
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        let user = self.user.load(SeqCst).to_string();
        let prompt_id = self.has_prompt.load(SeqCst).then(|| "prompt".to_owned());
        thread::yield_now();
        self.inside.store(false, SeqCst);
        Obtained { grant: Grant::for_test(&number.to_string(), &user, lifetime), prompt_id }
    }

    /// A renewal that fails, with its number as message.
    fn fail(&self) -> Result<Obtained, Error> {
        Err(Error::Internal(self.obtain(HOUR).grant.access_token))
    }

    fn ended(&self) -> usize {
        self.renewals.state().count as usize
    }
}

fn check(test: impl Fn(Arc<World>) + Send + Sync + 'static) {
    let test = Arc::new(test);
    let in_world = move || test(Arc::new(World::default()));
    shuttle::check_random(in_world.clone(), TRIES);
    shuttle::check_pct(in_world, TRIES, 3);
}

/// Runs `work` in several threads at once, and returns what each returned.
fn together<T: Send + 'static>(
    threads: usize,
    world: &Arc<World>,
    work: impl Fn(&World) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let work = Arc::new(work);
    let start = |_| {
        let (world, work) = (world.clone(), work.clone());
        thread::spawn(move || work(&world))
    };
    let threads: Vec<_> = (0..threads).map(start).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn those_who_come_together_renew_once() {
    check(|world| {
        let grants =
            together(3, &world, |world| world.renewals.get(None, |_| Ok(world.obtain(HOUR))));
        assert!(grants.iter().all(|grant| grant.as_ref().unwrap().access_token == "1"));
        assert_eq!(world.begun.load(SeqCst), 1);
    });
}

#[test]
fn an_outcome_is_of_a_renewal_that_ended_after_it_was_asked_for() {
    check(|world| {
        let all = together(3, &world, |world| {
            let ended_before = world.ended();
            match world.renewals.get(None, |_| world.fail()) {
                Err(Error::Internal(number)) => (ended_before, number.parse::<usize>().unwrap()),
                other => panic!("{other:?}"),
            }
        });
        assert!(all.iter().all(|(ended_before, number)| number > ended_before), "{all:?}");
        assert!(
            all.iter().any(|(_, number)| *number == 1),
            "the first failure reached its own thread"
        );
    });
}

#[test]
fn a_grant_too_short_lived_to_keep_is_good_for_those_who_waited_for_it() {
    check(|world| {
        let all = together(3, &world, |world| {
            let ended_before = world.ended();
            let grant = world.renewals.get(None, |_| Ok(world.obtain(0))).unwrap();
            (ended_before, grant.access_token.parse::<usize>().unwrap())
        });
        assert!(all.iter().all(|(ended_before, number)| number > ended_before), "{all:?}");
    });
}

#[test]
fn a_refused_token_is_renewed_once_and_never_handed_out_again() {
    check(|world| {
        let first = world.renewals.get(None, |_| Ok(world.obtain(HOUR))).unwrap();
        let renewing = {
            let (world, refused) = (world.clone(), first.clone());
            move || {
                let refused = Some(refused.access_token.as_str());
                world.renewals.get(refused, |old| {
                    assert_eq!(old, refused);
                    Ok(world.obtain(HOUR))
                })
            }
        };
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(renewing.clone())).collect();
        world.renewals.get(None, |_| Ok(world.obtain(HOUR))).unwrap();
        for thread in threads {
            assert_ne!(thread.join().unwrap().unwrap().access_token, first.access_token);
        }
        assert_eq!(world.begun.load(SeqCst), 2);
    });
}

#[test]
fn whoever_comes_after_a_reload_gets_who_is_signed_in_then() {
    check(|world| {
        let others = world.clone();
        let early = thread::spawn(move || {
            let ask = || others.renewals.get(None, |_| Ok(others.obtain(HOUR))).unwrap();
            (ask(), ask())
        });
        world.user.store(1, SeqCst);
        world.renewals.reload();
        let ask = || world.renewals.get(None, |_| Ok(world.obtain(HOUR))).unwrap();
        assert_eq!(ask().user_id, "1");
        early.join().unwrap();
        assert_eq!(ask().user_id, "1");
    });
}

#[test]
fn a_reload_does_not_hand_a_refused_token_out_again() {
    check(|world| {
        // The session file's access token is as good as any, unless it is the old one.
        let obtain = |world: &World, old: Option<&str>| {
            let kept = world.kept.load(SeqCst);
            let number = if old == Some(&*kept.to_string()) { kept + 1 } else { kept };
            world.kept.store(number, SeqCst);
            Ok(Obtained { grant: Grant::for_test(&number.to_string(), "0", HOUR), prompt_id: None })
        };
        let first = world.renewals.get(None, |old| obtain(&world, old)).unwrap();
        let others = world.clone();
        let reloading = thread::spawn(move || {
            others.renewals.reload();
            others.renewals.get(None, |old| obtain(&others, old)).unwrap();
        });
        let second = world.renewals.get(Some(&first.access_token), |old| obtain(&world, old));
        assert_ne!(second.unwrap().access_token, first.access_token);
        reloading.join().unwrap();
    });
}

#[test]
fn a_prompt_that_is_set_while_somebody_renews_is_not_forgotten() {
    check(|world| {
        let first = world.renewals.get(None, |_| Ok(world.obtain(HOUR))).unwrap();
        let others = world.clone();
        let setting = thread::spawn(move || {
            others.renewals.set_prompt_id("0", Some("prompt"));
            others.has_prompt.store(true, SeqCst);
        });
        world.renewals.get(Some(&first.access_token), |_| Ok(world.obtain(HOUR))).unwrap();
        setting.join().unwrap();
        assert_eq!(world.renewals.prompt_id("0").as_deref(), Some("prompt"));
    });
}

#[test]
fn a_prompt_that_is_forgotten_while_somebody_renews_does_not_come_back() {
    check(|world| {
        world.has_prompt.store(true, SeqCst);
        let first = world.renewals.get(None, |_| Ok(world.obtain(HOUR))).unwrap();
        let others = world.clone();
        let forgetting = thread::spawn(move || {
            others.renewals.set_prompt_id("0", None);
            others.has_prompt.store(false, SeqCst);
        });
        world.renewals.get(Some(&first.access_token), |_| Ok(world.obtain(HOUR))).unwrap();
        forgetting.join().unwrap();
        assert_eq!(world.renewals.prompt_id("0"), None);
    });
}
