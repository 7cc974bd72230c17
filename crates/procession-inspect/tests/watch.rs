//! A watch over a pool and a queue of this process, whose tasks the test takes and finishes itself.

use procession_core::family::label::Label;
use procession_core::pool::layout::{Head, REMEMBERED};
use procession_core::pool::{Definition, Options, Outgoing, Pool, Submission, Taken, TaskOptions, Worker};
use procession_core::queue::LockPolicy;
use procession_inspect::watch::{Moment, Watch};
use std::collections::HashSet;
use std::sync::Arc;

struct Scene {
    pool: Pool,
    worker: Worker,
    definition: Arc<Definition>,
    group: u64,
    next: u64,
}

impl Scene {
    fn new() -> Scene {
        let options = Options {
            workers: 1,
            ..Options::default()
        };
        let pool = Pool::new(options).unwrap();
        let family = pool.family();
        let label = Label::new(family, "module.function", "").unwrap();
        let definition = Definition::new(family, 0, [b"f", &[]], Vec::new()).unwrap();
        let definition = Arc::new(definition.labelled(label));
        let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
        worker.ready();
        let group = pool.group(Some(definition.clone()), false);
        Scene {
            pool,
            worker,
            definition,
            group,
            next: 0,
        }
    }

    /// Submits and finishes tasks; returns their ids.
    fn run(&mut self, tasks: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        for _ in 0..tasks {
            let task = Submission {
                group: self.group,
                number: self.next,
                definition: Some(self.definition.clone()),
                options: TaskOptions::default(),
                ..Submission::default()
            };
            self.next += 1;
            let outgoing = Outgoing {
                parts: [b"task", &[]],
                ..Outgoing::default()
            };
            ids.push(self.pool.submit(task, outgoing).unwrap());
            let mut scratch = Vec::new();
            let task = loop {
                match self.worker.try_take(&mut scratch, LockPolicy::Bounded).unwrap() {
                    Taken::Task(task) => break task.head.task,
                    Taken::Again => {}
                    other => panic!("{other:?}"),
                }
            };
            let head = Head {
                task,
                ..Head::default()
            };
            let head = head.to_bytes();
            let mut parcel = self.worker.pack([&head, b"done"], 0, Vec::new(), 0).unwrap();
            self.worker.deliver(&mut parcel).unwrap();
            let _ = self.worker.finish();
        }
        ids
    }
}

fn ids(moment: &Moment) -> Vec<u64> {
    moment.finished.iter().map(|task| task.id).collect()
}

#[test]
fn a_watch_sees_each_finished_task_once_and_counts_what_it_has_missed() {
    let mut scene = Scene::new();
    let remembered = scene.run(3);
    let mut watch = Watch::attach(std::process::id()).unwrap();
    let first = watch.look().unwrap();
    assert_eq!((ids(&first), first.tasks_missed()), (remembered, 0));
    assert_eq!(first.seconds, 0.0);

    let some = scene.run(5);
    let moment = watch.look().unwrap();
    assert_eq!((ids(&moment), moment.tasks_missed()), (some, 0));
    for (number, task) in (3..).zip(&moment.finished) {
        assert_eq!(task.function.as_deref(), Some("module.function"));
        assert_eq!((task.number, task.slot), (Some(number), 0));
        assert!(first.family.at < task.began && task.began <= task.ended && task.ended < moment.family.at);
    }
    assert!(moment.seconds > 0.0);
    let nothing = watch.look().unwrap();
    assert_eq!((ids(&nothing), nothing.tasks_missed()), (Vec::new(), 0));

    // Between two looks the rings alone are read, so that no task is missed.
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(scene.run(100));
        watch.read_tasks();
    }
    let moment = watch.look().unwrap();
    assert_eq!((ids(&moment), moment.tasks_missed()), (all, 0));
    let pool = &moment.pools[&moment.finished[0].pool];
    assert!(pool.submitted > 0.0, "{pool:?}");

    // One entry of the ring may be in the middle of a change, so it is not read.
    let many = scene.run(3 * REMEMBERED);
    let moment = watch.look().unwrap();
    let kept = REMEMBERED - 1;
    assert_eq!(ids(&moment), many[many.len() - kept..]);
    assert_eq!(moment.tasks_missed(), (many.len() - kept) as u64);
    assert_eq!(moment.missed.len(), 1);

    // The last tasks of a pool that has ended are still there.
    let last = scene.run(4);
    drop(scene);
    let moment = watch.look().unwrap();
    let seen: HashSet<u64> = ids(&moment).into_iter().collect();
    assert_eq!(seen, last.into_iter().collect());
    assert!(moment.pools.is_empty());
    assert!(!moment.has_ended());
}
