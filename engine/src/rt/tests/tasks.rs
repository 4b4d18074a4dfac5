//! Tasks, timers and wakes.

use super::*;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::task::Poll;

#[test]
fn sleeps_last_as_long_as_they_should_and_end_in_order() {
    on_both(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let begin = Instant::now();
        for time_ms in [30, 10, 20, 10, 0] {
            let order = order.clone();
            spawn(async move {
                sleep_until(begin + Duration::from_millis(time_ms)).await;
                assert!(begin.elapsed() >= Duration::from_millis(time_ms), "early");
                order.borrow_mut().push(time_ms);
            });
        }
        until(|| order.borrow().len() == 5).await;
        assert_eq!(*order.borrow(), [0, 10, 10, 20, 30]);
    });
}

#[test]
fn many_timers_end_whichever_others_are_dropped() {
    on_both(|| async {
        let ended = Rc::new(Cell::new(0));
        let begin = Instant::now();
        let mut state = 7u64;
        let mut dropped = Vec::new();
        for number in 0..500u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let sleep = sleep_until(begin + Duration::from_millis(state >> 58));
            if number % 3 == 0 {
                dropped.push(sleep);
            } else {
                let ended = ended.clone();
                spawn(async move {
                    sleep.await;
                    ended.set(ended.get() + 1);
                });
            }
        }
        while let Some(sleep) = dropped.pop() {
            drop(sleep);
        }
        until(|| ended.get() == 333).await;
    });
}

#[test]
fn deadlines_move() {
    on_both(|| async {
        let deadline = Deadline::new();
        assert!(
            poll_and_drop(poll_fn(|context| deadline.poll_expired(context)))
                .await
                .is_none()
        );
        let begin = Instant::now();
        // Later, earlier, off, and on again.
        deadline.set(Some(begin + Duration::from_secs(3600)));
        deadline.set(Some(begin + Duration::from_millis(5)));
        poll_fn(|context| deadline.poll_expired(context)).await;
        assert!(begin.elapsed() >= Duration::from_millis(5));
        deadline.set(None);
        assert!(
            poll_and_drop(poll_fn(|context| deadline.poll_expired(context)))
                .await
                .is_none()
        );
        let begin = now();
        deadline.set(Some(begin + Duration::from_millis(10)));
        for step in 1..=20 {
            sleep_ms(1).await;
            deadline.set(Some(begin + Duration::from_millis(10 + step)));
        }
        poll_fn(|context| deadline.poll_expired(context)).await;
        assert!(begin.elapsed() >= Duration::from_millis(30));
    });
}

#[test]
fn a_deadline_that_has_moved_wakes_whoever_polled_last() {
    on_both(|| async {
        let deadline = Rc::new(Deadline::new());
        let is_pending = || async {
            let polled = poll_fn(|context| deadline.poll_expired(context));
            poll_and_drop(polled).await.is_none()
        };
        let begin = now();
        deadline.set(Some(begin + Duration::from_millis(5)));
        assert!(is_pending().await);
        // Later, and another task waits: what is armed would wake this one.
        deadline.set(Some(begin + Duration::from_millis(20)));
        let ended = Rc::new(Cell::new(false));
        spawn({
            let (deadline, ended) = (deadline.clone(), ended.clone());
            async move {
                poll_fn(|context| deadline.poll_expired(context)).await;
                ended.set(true);
            }
        });
        until(|| ended.get()).await;
        assert!(begin.elapsed() >= Duration::from_millis(20));
        // Lifted while it is armed for later, then set to earlier.
        deadline.set(Some(now() + Duration::from_secs(3600)));
        assert!(is_pending().await);
        deadline.set(None);
        assert!(is_pending().await);
        deadline.set(Some(now() + Duration::from_millis(5)));
        poll_fn(|context| deadline.poll_expired(context)).await;
        // What it was armed for has passed when it is set again.
        deadline.set(Some(now() + Duration::from_millis(5)));
        poll_fn(|context| deadline.poll_expired(context)).await;
    });
}

#[test]
fn timers_and_sockets_move_while_tasks_never_rest() {
    on_both(|| async {
        let stop = Rc::new(Cell::new(false));
        let turns = Rc::new(Cell::new(0u64));
        for _ in 0..4 {
            let (stop, turns) = (stop.clone(), turns.clone());
            spawn(async move {
                while !stop.get() {
                    turns.set(turns.get() + 1);
                    next_turn().await;
                }
            });
        }
        let (stream, mut plain) = pair();
        let begin = Instant::now();
        for _ in 0..10 {
            sleep_ms(2).await;
        }
        let late = begin.elapsed();
        assert!(late < PATIENCE / 4, "20 ms took {late:?}");
        for round in 0..50u8 {
            plain.write_all(&[round]).unwrap();
            assert_eq!(&*stream.receive().await.unwrap(), [round]);
        }
        assert!(turns.get() > 100, "the other tasks ran meanwhile");
        stop.set(true);
    });
}

#[test]
fn a_task_that_always_finds_room_and_bytes_leaves_others_their_turn() {
    const ROUNDS: u64 = 1_000;
    on_both(|| async {
        let turns = Rc::new(Cell::new(0u64));
        let counted = turns.clone();
        spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                next_turn().await;
            }
        });
        let (busy, _other_end) = pair();
        let sent_beside = Rc::new(Cell::new(0u64));
        let beside = sent_beside.clone();
        spawn(async move {
            loop {
                busy.send(buffer(b"z"), Chunk::default()).await.unwrap();
                beside.set(beside.get() + 1);
            }
        });
        let (stream, mut plain) = pair();
        let all = vec![b'x'; ROUNDS as usize];
        plain.write_all(&all).unwrap();
        stream.ready().await;
        let before = turns.get();
        for _ in 0..ROUNDS {
            stream.send(buffer(b"y"), Chunk::default()).await.unwrap();
        }
        let passed = turns.get() - before;
        assert!(passed >= ROUNDS / 64, "{passed} turns");
        let beside = sent_beside.get();
        assert!(
            (ROUNDS / 2..ROUNDS * 2).contains(&beside),
            "{beside} beside {ROUNDS}"
        );
        let mut received = 0;
        while received < all.len() {
            received += stream.receive().await.unwrap().len();
        }
        let mut echoed = all;
        plain.read_exact(&mut echoed).unwrap();
        assert!(echoed.iter().all(|byte| *byte == b'y'));
    });
}

#[test]
fn other_threads_notify() {
    on_both(|| async {
        let (notifier, notified) = notification();
        let thread = std::thread::spawn(move || {
            for _ in 0..3 {
                notifier.notify();
            }
            notifier
        });
        notified.wait().await;
        let notifier = thread.join().unwrap();
        // Raised while nobody waits; the earlier calls may have raised it again.
        notifier.notify();
        notified.wait().await;
        let waiting = poll_and_drop(notified.wait()).await;
        assert!(waiting.is_none(), "lowered by the wait");
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            notifier.notify();
        });
        notified.wait().await;
        thread.join().unwrap();
    });
}

#[test]
fn wakers_work_from_other_threads_and_after_the_end() {
    let (wakers, kept) = mpsc::channel();
    let wakers = std::sync::Arc::new(Mutex::new(wakers));
    on_both(move || {
        let wakers = wakers.lock().unwrap().clone();
        async move {
            let mut woken = false;
            poll_fn(|context| {
                if std::mem::replace(&mut woken, true) {
                    return Poll::Ready(());
                }
                let waker = context.waker().clone();
                wakers.send(waker.clone()).unwrap();
                std::thread::spawn(move || waker.wake());
                Poll::Pending
            })
            .await;
        }
    });
    // The runtimes are gone.
    for waker in kept.try_iter() {
        waker.wake();
    }
}

#[test]
fn a_panic_ends_its_task_only() {
    on_both(|| async {
        struct OnDrop(Rc<Cell<bool>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = Rc::new(Cell::new(false));
        let guard = OnDrop(dropped.clone());
        spawn(async move {
            let _guard = guard;
            next_turn().await;
            panic!("on purpose");
        });
        until(|| counters().task_panics == 1).await;
        assert!(dropped.get(), "what the task owned is dropped");
        sleep_ms(1).await;
    });
}

#[test]
fn a_panic_of_the_main_task_is_an_error() {
    for driver in drivers() {
        let options = RuntimeOptions {
            driver,
            ..RuntimeOptions::default()
        };
        assert!(run(&options, || async { panic!("on purpose") }).is_err());
        // The thread can run another one.
        run(&options, || async {}).unwrap();
    }
}

#[test]
fn the_end_drops_all_tasks() {
    for driver in drivers() {
        let held = Rc::new(());
        let options = RuntimeOptions {
            driver,
            ..RuntimeOptions::default()
        };
        let kept = held.clone();
        run(&options, || async move {
            let (stream, _plain) = pair();
            spawn(async move {
                let _kept = kept;
                let _ = stream.receive().await;
                unreachable!("nothing is sent");
            });
            sleep_ms(2).await;
        })
        .unwrap();
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

#[test]
fn the_driver_can_be_forced() {
    let report = probe(DriverChoice::Epoll).unwrap();
    assert_eq!(report.kind, DriverKind::Epoll);
    let auto = probe(DriverChoice::Auto).unwrap();
    match probe(DriverChoice::IoUring) {
        Ok(forced) => assert_eq!((forced.kind, &forced), (DriverKind::IoUring, &auto)),
        Err(error) => {
            assert_eq!(auto.kind, DriverKind::Epoll);
            assert!(auto.reason.contains(&error.to_string()), "{auto:?}");
        }
    }
    let options = RuntimeOptions {
        driver: DriverChoice::Epoll,
        ..RuntimeOptions::default()
    };
    let nested = options.clone();
    run(&options, || async move {
        assert!(run(&nested, || async {}).is_err(), "one runtime a thread");
    })
    .unwrap();
}

/// Makes `io_uring_setup` fail with `EPERM` on this thread, as container runtimes do.
fn refuse_io_uring() {
    let load_number = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump_if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut filter = [
        step(load_number, 0, 0),
        step(jump_if_equal, 1, libc::SYS_io_uring_setup as u32),
        step(answer, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program is readable over the calls, which concern this thread only.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
            0
        );
    }
}

#[test]
fn where_io_uring_is_refused_epoll_takes_over_and_says_why() {
    let thread = std::thread::spawn(|| {
        refuse_io_uring();
        let report = probe(DriverChoice::Auto).unwrap();
        assert_eq!(report.kind, DriverKind::Epoll);
        assert!(report.reason.contains("io_uring_setup") && report.reason.contains("seccomp"));
        let refused = probe(DriverChoice::IoUring).unwrap_err();
        assert!(refused.to_string().contains("os error 1"), "{refused}");
        let forced = RuntimeOptions {
            driver: DriverChoice::IoUring,
            ..RuntimeOptions::default()
        };
        assert!(run(&forced, || async {}).is_err());
        run(&RuntimeOptions::default(), || async {
            let (stream, mut plain) = pair();
            plain.write_all(b"carried").unwrap();
            assert_eq!(&*stream.receive().await.unwrap(), b"carried");
        })
        .unwrap();
    });
    thread.join().unwrap();
}
