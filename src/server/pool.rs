//! A pool of threads that never queues a job: if no thread is free, another is started. Idle
//! threads stay a while for further jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Delay before `after_burst`, so that exiting threads have released their memory.
const TEAR_DOWN: Duration = Duration::from_millis(200);

/// The work of a thread until it is free again.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs, each at once.
pub struct Pool {
    name: &'static str,
    stack: usize,
    idle_time: Duration,
    /// Called each time that half of the threads have ended.
    after_burst: fn(),
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    count: usize,
    /// The most threads since the last call of `after_burst`.
    most: usize,
    /// Those without a job. The last one to become idle is the first to get one: what it works with is
    /// still at hand, and those that are not needed end.
    idle: Vec<(Arc<Desk>, Thread)>,
}

/// Where a thread finds its next job.
#[derive(Default)]
struct Desk(Mutex<Option<Job>>);

impl Desk {
    fn put(&self, job: Job) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    }

    fn take(&self) -> Option<Job> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Pool {
    /// Creates a pool without threads. They are called `name`, have `stack` bytes of stack, and end
    /// after `idle_time` without a job; each time that half of them have ended, `after_burst` is called.
    pub fn new(
        name: &'static str,
        stack: usize,
        idle_time: Duration,
        after_burst: fn(),
    ) -> Arc<Pool> {
        Arc::new(Pool { name, stack, idle_time, after_burst, threads: Mutex::default() })
    }

    /// Runs `job` on a thread of the pool, or on the caller's if none can be started. A panic ends
    /// only the job.
    pub fn run(self: &Arc<Pool>, job: Job) {
        let idle = self.threads().idle.pop();
        if let Some((desk, thread)) = idle {
            desk.put(job);
            return thread.unpark();
        }
        let desk = Arc::new(Desk::default());
        desk.put(job);
        if let Err(error) = self.add_thread(desk.clone()) {
            log::warn!("no thread can be made ({error}); going on without");
            desk.take().into_iter().for_each(do_job);
        }
    }

    /// Starts a thread, which finds its first job on its desk.
    fn add_thread(self: &Arc<Pool>, desk: Arc<Desk>) -> std::io::Result<()> {
        let pool = self.clone();
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(self.stack);
        self.count_up();
        let started = thread.spawn(move || pool.work(&desk));
        started.map(drop).inspect_err(|_| self.threads().count -= 1)
    }

    fn count_up(&self) {
        let mut threads = self.threads();
        threads.count += 1;
        threads.most = threads.most.max(threads.count);
    }

    /// Runs a thread of the pool: does jobs until it has been idle for too long.
    fn work(&self, desk: &Arc<Desk>) {
        while let Some(job) = self.next_job(desk) {
            do_job(job);
        }
        let mut threads = self.threads();
        threads.count -= 1;
        if threads.count <= threads.most / 2 {
            threads.most = threads.count;
            drop(threads);
            thread::sleep(TEAR_DOWN);
            (self.after_burst)();
        }
    }

    /// Waits for the next job; `None` if there is none for too long.
    fn next_job(&self, desk: &Arc<Desk>) -> Option<Job> {
        if let Some(first) = desk.take() {
            return Some(first);
        }
        self.threads().idle.push((desk.clone(), thread::current()));
        let until = Instant::now() + self.idle_time;
        loop {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
            if let Some(job) = desk.take() {
                return Some(job);
            }
            if Instant::now() >= until && self.leave(desk) {
                return None;
            }
        }
    }

    /// Has no job be given to an idle thread any more; false if one is being given.
    fn leave(&self, desk: &Arc<Desk>) -> bool {
        let mut threads = self.threads();
        let place = threads.idle.iter().position(|(other, _)| Arc::ptr_eq(other, desk));
        place.map(|place| threads.idle.remove(place)).is_some()
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn do_job(job: Job) {
    // The panic hook has reported the panic.
    let _ = catch_unwind(AssertUnwindSafe(job));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{ThreadId, current};

    const STACK: usize = 256 * 1024;

    fn thread_of_a_job(pool: &Arc<Pool>) -> ThreadId {
        let (sender, receiver) = bounded(1);
        pool.run(Box::new(move || sender.send(current().id()).unwrap()));
        receiver.recv().unwrap()
    }

    fn wait_until(mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain");
            std::thread::yield_now();
        }
    }

    #[test]
    fn jobs_at_the_same_time_have_a_thread_each_and_later_ones_take_them_again() {
        let pool = Pool::new("test", STACK, Duration::from_secs(60), || {});
        let (started, start) = bounded(10);
        let (finish, finished) = bounded::<()>(0);
        for _ in 0..10 {
            let (started, finished) = (started.clone(), finished.clone());
            pool.run(Box::new(move || {
                started.send(current().id()).unwrap();
                let _ = finished.recv();
            }));
        }
        let threads: std::collections::HashSet<ThreadId> = start.iter().take(10).collect();
        assert_eq!(threads.len(), 10);
        drop(finish);
        // A thread that has just finished becomes free a moment later.
        wait_until(|| pool.threads().idle.len() == threads.len());
        assert!(threads.contains(&thread_of_a_job(&pool)));
    }

    #[test]
    fn no_job_waits_for_the_thread_of_another_however_many_come_at_once() {
        const JOBS: usize = 64;
        for _ in 0..20 {
            let pool = Pool::new("test", STACK, Duration::from_secs(60), || {});
            let (started, start) = bounded(JOBS);
            let (finish, finished) = bounded::<()>(0);
            std::thread::scope(|scope| {
                for _ in 0..JOBS {
                    let (pool, started, finished) = (&pool, started.clone(), finished.clone());
                    scope.spawn(move || {
                        pool.run(Box::new(move || {
                            started.send(()).unwrap();
                            let _ = finished.recv();
                        }));
                    });
                }
                for number in 0..JOBS {
                    let began = start.recv_timeout(Duration::from_secs(5));
                    if began.is_err() {
                        // Otherwise the jobs would wait for ever, and the failure would not be
                        // seen.
                        drop(finish);
                        panic!("only {number} of {JOBS} jobs have begun");
                    }
                }
                drop(finish);
            });
        }
    }

    #[test]
    fn a_job_that_panics_ends_alone_and_its_thread_goes_on() {
        let pool = Pool::new("test", STACK, Duration::from_secs(60), || {});
        let (sender, receiver) = bounded(1);
        pool.run(Box::new(move || {
            sender.send(current().id()).unwrap();
            panic!("on purpose")
        }));
        let thread = receiver.recv().unwrap();
        wait_until(|| thread_of_a_job(&pool) == thread);
    }

    #[test]
    fn when_a_burst_is_over_it_is_told() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        fn count() {
            TOLD.fetch_add(1, Ordering::SeqCst);
        }
        let pool = Pool::new("test", STACK, Duration::from_millis(1), count);
        let (finish, finished) = bounded::<()>(0);
        for _ in 0..8 {
            let finished = finished.clone();
            pool.run(Box::new(move || {
                let _ = finished.recv();
            }));
        }
        assert_eq!(TOLD.load(Ordering::SeqCst), 0, "nothing is over yet");
        drop(finish);
        wait_until(|| pool.threads().count == 0 && TOLD.load(Ordering::SeqCst) >= 4);
        assert_eq!(TOLD.load(Ordering::SeqCst), 4, "at four, two, one and none");
    }
}
