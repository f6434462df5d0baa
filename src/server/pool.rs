//! A pool of threads that never queues a job: if no thread is free, another is started. Idle
//! threads stay a while for further jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendError, Sender, TrySendError, bounded};

/// Delay before `after_burst`, so that exiting threads have released their memory.
const TEAR_DOWN: Duration = Duration::from_millis(200);

/// The work of a thread until it is free again.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs, each at once.
pub struct Pool {
    name: &'static str,
    stack: usize,
    idle: Duration,
    /// Called each time that half of the threads have ended.
    after_burst: fn(),
    jobs: (Sender<Job>, Receiver<Job>),
    size: Mutex<Size>,
}

#[derive(Default)]
struct Size {
    threads: usize,
    /// The most threads since the last call of `after_burst`.
    most: usize,
}

impl Pool {
    /// Creates a pool without threads. They are called `name`, have `stack` bytes of stack, and end
    /// after `idle` without a job; each time that half of them have ended, `after_burst` is called.
    pub fn new(name: &'static str, stack: usize, idle: Duration, after_burst: fn()) -> Arc<Pool> {
        let size = Mutex::default();
        Arc::new(Pool { name, stack, idle, after_burst, jobs: bounded(0), size })
    }

    /// Runs `job` on a thread of the pool, or on the caller's if none can be started. A panic ends
    /// only the job.
    pub fn run(self: &Arc<Pool>, job: Job) {
        // The channel has no room: it accepts a job only if a thread is waiting.
        let Err(TrySendError::Full(job)) = self.jobs.0.try_send(job) else { return };
        let job = match self.add_thread() {
            // The job goes directly to the new thread: on the shared channel, another caller's job
            // could reach the thread first.
            Ok(first) => match first.send(job) {
                Ok(()) => return,
                Err(SendError(job)) => job,
            },
            Err(error) => {
                log::warn!("no thread can be made ({error}); going on without");
                job
            }
        };
        do_job(job);
    }

    /// Starts a thread, and returns the channel for its first job.
    fn add_thread(self: &Arc<Pool>) -> std::io::Result<Sender<Job>> {
        let pool = self.clone();
        let (first, job) = bounded(1);
        let thread = std::thread::Builder::new().name(self.name.to_owned()).stack_size(self.stack);
        thread.spawn(move || {
            if let Ok(job) = job.recv() {
                do_job(job);
            }
            pool.work();
        })?;
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.threads += 1;
        size.most = size.most.max(size.threads);
        Ok(first)
    }

    /// Runs a thread of the pool: takes jobs until it has been idle for too long.
    fn work(&self) {
        while let Ok(job) = self.jobs.1.recv_timeout(self.idle) {
            do_job(job);
        }
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.threads -= 1;
        if size.threads <= size.most / 2 {
            size.most = size.threads;
            drop(size);
            std::thread::sleep(TEAR_DOWN);
            (self.after_burst)();
        }
    }
}

fn do_job(job: Job) {
    // The panic hook has reported the panic.
    let _ = catch_unwind(AssertUnwindSafe(job));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{ThreadId, current};
    use std::time::Instant;

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
        let reused = std::iter::repeat_with(|| thread_of_a_job(&pool));
        assert!(reused.take(10_000).any(|thread| threads.contains(&thread)));
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
        wait_until(|| pool.size.lock().unwrap().threads == 0 && TOLD.load(Ordering::SeqCst) >= 4);
        assert_eq!(TOLD.load(Ordering::SeqCst), 4, "at four, two, one and none");
    }
}
