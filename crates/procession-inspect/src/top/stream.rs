//! The tasks of a worker in one row: a column for a piece of time, a shade for each task.

use crate::model::{Key, Pool, Worker};
use crate::watch::Finished;
use std::collections::{HashMap, VecDeque};

/// Number of tasks that are kept for each worker.
const MOST: usize = 4096;

/// A column: the task that has most of its time, if a task ran in half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Number of the task in its worker's row, by which its shade is chosen. Neighbours have different ones.
    pub(super) task: Option<u64>,
    /// Number of the function.
    pub(super) function: usize,
}

/// The tasks that workers have finished.
#[derive(Debug, Default)]
pub(super) struct Streams {
    tasks: HashMap<(Key, u32), VecDeque<(u64, Finished)>>,
    count: HashMap<(Key, u32), u64>,
    functions: HashMap<Option<String>, usize>,
}

impl Streams {
    pub(super) fn add(&mut self, finished: Vec<Finished>) {
        for task in finished {
            let functions = self.functions.len();
            self.functions.entry(task.function.clone()).or_insert(functions);
            let name = (task.pool, task.slot);
            let count = self.count.entry(name).or_default();
            *count += 1;
            let tasks = self.tasks.entry(name).or_default();
            tasks.push_back((*count, task));
            if tasks.len() > MOST {
                tasks.pop_front();
            }
        }
    }

    /// Forgets the workers of pools that have ended.
    pub(super) fn keep(&mut self, is_there: impl Fn(Key) -> bool) {
        self.tasks.retain(|(pool, _), _| is_there(*pool));
        self.count.retain(|(pool, _), _| is_there(*pool));
    }

    /// The last tasks of a worker, the latest first.
    pub(super) fn last(&self, pool: Key, slot: u32) -> impl Iterator<Item = &Finished> {
        let tasks = self.tasks.get(&(pool, slot)).into_iter().flatten();
        tasks.rev().map(|(_, task)| task)
    }

    /// The columns of a worker's row, of which the last one ends at `now`.
    pub(super) fn columns(
        &self,
        pool: Key,
        worker: &Worker,
        now: u64,
        window: f64,
        columns: usize,
    ) -> Vec<Column> {
        let nothing = Column {
            task: None,
            function: 0,
        };
        let mut out = vec![nothing; columns];
        let mut most = vec![0.0; columns];
        let width = window * 1e9 / columns.max(1) as f64;
        let start = now as f64 - window * 1e9;
        let mut paint = |number: u64, function: &Option<String>, began: u64, ended: u64| {
            let (from, to) = ((began as f64 - start) / width, (ended as f64 - start) / width);
            let first = from.floor().max(0.0) as usize;
            let last = (to.ceil().max(0.0) as usize).min(columns);
            let function = self.functions.get(function).copied().unwrap_or(0);
            for column in first..last {
                let share = to.min(column as f64 + 1.0) - from.max(column as f64);
                if share > most[column] {
                    most[column] = share;
                    out[column] = Column {
                        task: Some(number),
                        function,
                    };
                }
            }
        };
        let tasks = self.tasks.get(&(pool, worker.slot));
        for (number, task) in tasks.into_iter().flatten().rev() {
            if (task.ended as f64) < start {
                break;
            }
            paint(*number, &task.function, task.began, task.ended);
        }
        if let Some(task) = &worker.task {
            let count = self.count.get(&(pool, worker.slot)).copied().unwrap_or(0);
            let began = now.saturating_sub((task.seconds * 1e9) as u64);
            paint(count + 1, &task.function, began, now);
        }
        out
    }
}

/// The character of a column: neighbours differ without colour, too.
pub(super) fn shade(column: Column, unicode: bool) -> char {
    const UNICODE: [char; 4] = ['█', '▓', '▒', '░'];
    const PLAIN: [char; 4] = ['#', '=', '+', '-'];
    let shades = if unicode { UNICODE } else { PLAIN };
    column.task.map_or(' ', |task| shades[(task % 4) as usize])
}

/// Depths of a queue as a line of blocks, from the oldest to the latest.
pub(super) fn sparkline(depths: &VecDeque<u64>, unicode: bool) -> String {
    const UNICODE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const PLAIN: [char; 8] = ['_', '.', ',', '-', '~', '=', '+', '#'];
    let most = depths.iter().copied().max().unwrap_or(0).max(1);
    let blocks = if unicode { UNICODE } else { PLAIN };
    depths
        .iter()
        .map(|depth| blocks[(7.0 * *depth as f64 / most as f64).ceil().clamp(0.0, 7.0) as usize])
        .collect()
}

/// Number of workers of a pool that have a task.
pub(super) fn running(pool: &Pool) -> usize {
    pool.workers.iter().filter(|worker| worker.task.is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_depths_make_a_sparkline() {
        let depths: VecDeque<u64> = [0, 1, u64::MAX / 2, u64::MAX].into();
        assert_eq!(sparkline(&depths, true), "▁▂▅█");
        assert_eq!(sparkline(&[0, 0].into(), false), "__");
    }
}
