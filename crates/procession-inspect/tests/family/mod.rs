//! Models of families, made by hand.

use procession_inspect::findings::{Finding, Kind};
use procession_inspect::model::{
    Detail, Ended, Family, Function, Key, Lock, Maker, Member, Object, Pool, Process, Queue, SeatState, Task,
    Thread, Wait, Waits, What, Worker,
};

/// What the tasks of all pools have in common.
pub const DEFINITION: Key = Key {
    at: 0x900_0000,
    generation: 3,
};

/// The only finding, which is of this kind.
pub fn only(findings: &[Finding], kind: Kind) -> &Finding {
    let kinds: Vec<Kind> = findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [kind]);
    &findings[0]
}

/// A family under construction. Members are named by their positions, objects by their keys.
pub struct Made {
    pub family: Family,
}

impl Made {
    /// Living processes with these names and one thread each.
    pub fn new(names: &[&str]) -> Made {
        let members = (0u32..).zip(names).map(|(seat, name)| Member {
            seat,
            generation: 1,
            pid: Some(100 + seat),
            own_pid: 100 + seat,
            name: (*name).to_owned(),
            state: SeatState::Alive,
            process: Some(Process {
                state: 'S',
                ..Process::default()
            }),
            threads: vec![Thread {
                id: 100 + seat,
                own_id: 100 + seat,
                state: 'S',
                ..Thread::default()
            }],
            ..Member::default()
        });
        Made {
            family: Family {
                members: members.collect(),
                ..Family::default()
            },
        }
    }

    fn add(&mut self, name: &str, detail: Detail) -> Key {
        let key = Key {
            at: 0x200_0000 + 256 * self.family.objects.len() as u64,
            generation: 1,
        };
        self.family.objects.push(Object {
            key,
            name: Some(name.to_owned()),
            made_at: None,
            maker: Maker::default(),
            age: 100.0,
            references: 0,
            bytes: 256,
            operations: 1,
            detail,
        });
        key
    }

    fn held(&self, holder: Option<usize>) -> Lock {
        Lock {
            holder: holder.map(|member| self.family.members[member].who()),
            ..Lock::default()
        }
    }

    pub fn lock(&mut self, name: &str, holder: Option<usize>) -> Key {
        let lock = self.held(holder);
        self.add(name, Detail::Lock(lock))
    }

    pub fn rlock(&mut self, name: &str, holder: Option<usize>) -> Key {
        let lock = self.held(holder);
        self.add(name, Detail::RLock(lock))
    }

    /// A lock is held by this thread of its holder.
    pub fn held_by_thread(&mut self, lock: Key, identity: u64) {
        if let Detail::Lock(lock) | Detail::RLock(lock) = &mut self.object(lock).detail {
            lock.holder_thread = identity;
        }
    }

    pub fn event(&mut self, name: &str) -> Key {
        self.add(
            name,
            Detail::Event {
                set: false,
                waits: Waits::default(),
            },
        )
    }

    pub fn queue(&mut self, name: &str, depth: u64, limit: Option<u64>) -> Key {
        let queue = Queue {
            depth,
            limit,
            put: depth,
            ..Queue::default()
        };
        self.add(name, Detail::Queue(queue))
    }

    /// A pool of the first member, whose first workers run a task for `seconds`. The task of worker n has the id n + 1.
    pub fn pool(&mut self, name: &str, members: &[usize], busy: usize, seconds: f64) -> Key {
        let workers = (0u32..).zip(members).map(|(slot, member)| {
            let works = (slot as usize) < busy;
            Worker {
                slot,
                who: Some(self.family.members[*member].who()),
                ready: true,
                task: works.then(|| Task {
                    id: 1 + u64::from(slot),
                    definition: Some(DEFINITION),
                    function: Some("train.load".to_owned()),
                    number: Some(7),
                    seconds,
                    ..Task::default()
                }),
                idle: (!works).then_some(5.0),
                ..Worker::default()
            }
        });
        let pool = Pool {
            owner: Some(self.family.members[0].who()),
            workers: workers.collect(),
            ..Pool::default()
        };
        self.add(name, Detail::Pool(pool))
    }

    pub fn median(&mut self, pool: Key, median: f64) {
        if let Detail::Pool(pool) = &mut self.object(pool).detail {
            pool.functions = vec![Function {
                name: Some("train.load".to_owned()),
                tasks: 50,
                median,
            }];
        }
    }

    pub fn object(&mut self, key: Key) -> &mut Object {
        let found = self.family.objects.iter_mut().find(|object| object.key == key);
        found.expect("an object of this family")
    }

    pub fn refer(&mut self, member: usize, key: Key) {
        self.family.members[member].refers.push(key.at);
        self.object(key).references += 1;
    }

    pub fn refer_all(&mut self, keys: &[Key]) {
        for member in &mut self.family.members {
            member.refers.extend(keys.iter().map(|key| key.at));
        }
        for object in &mut self.family.objects {
            if keys.contains(&object.key) {
                object.references += self.family.members.len() as u64;
            }
        }
    }

    /// The first thread of a member waits.
    pub fn wait(&mut self, member: usize, what: What, object: Key) -> &mut Wait {
        self.put(member, what, Some(object), None)
    }

    /// The first thread of a member waits for the end of another.
    pub fn join(&mut self, member: usize, other: usize) {
        self.put(member, What::Join, None, Some(other as u32));
    }

    /// Another thread of a member waits.
    pub fn wait_in_thread(&mut self, member: usize, thread: usize, what: What, object: Key) -> &mut Wait {
        self.put_in(member, thread, what, Some(object), None)
    }

    fn put(&mut self, member: usize, what: What, object: Option<Key>, other: Option<u32>) -> &mut Wait {
        self.put_in(member, 0, what, object, other)
    }

    fn put_in(
        &mut self,
        member: usize,
        thread: usize,
        what: What,
        object: Option<Key>,
        other: Option<u32>,
    ) -> &mut Wait {
        self.family.members[member].threads[thread].state = 'S';
        self.family.members[member].threads[thread].wait.insert(Wait {
            what,
            object,
            member: other,
            number: None,
            group: None,
            untouched: true,
            seconds: 10.0,
            gives_up_in: None,
            holder_unchanged: true,
            identity: 0,
            happened: false,
            steady: true,
        })
    }

    /// A pool as [`Made::pool`], with a supervisor that has nothing to do.
    pub fn supervised_pool(&mut self, members: &[usize], busy: usize) -> Key {
        let pool = self.pool("pool", members, busy, 30.0);
        self.thread(0);
        let thread = self.family.members[0].threads.len() - 1;
        self.wait_in_thread(0, thread, What::Supervise, pool).identity = 99;
        pool
    }

    /// Another thread of a member, which runs.
    pub fn thread(&mut self, member: usize) -> &mut Thread {
        let threads = &mut self.family.members[member].threads;
        threads.push(Thread {
            id: 1000 + threads.len() as u32,
            state: 'R',
            ..Thread::default()
        });
        threads.last_mut().expect("just added")
    }

    /// The first thread of a member runs.
    pub fn runs(&mut self, member: usize) {
        self.family.members[member].threads[0].state = 'R';
    }

    pub fn stop(&mut self, member: usize) {
        if let Some(process) = &mut self.family.members[member].process {
            process.state = 'T';
        }
    }

    pub fn ended(&mut self, name: &str, exit: Option<i32>) {
        self.family.ended.push(Ended {
            name: name.to_owned(),
            pid: 99,
            exit,
        });
    }
}
