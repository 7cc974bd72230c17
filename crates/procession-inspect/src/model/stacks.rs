//! The Python frames of the threads of a process.

use super::Thread;
use serde::{Deserialize, Serialize};

/// The function of Procession in which every child runs the program's function. A fork copies the frames below it.
const START: &str = "_bootstrap";

/// The stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// The thread's id in the kernel, in the PID namespace of its process, if it is known.
    #[serde(default)]
    pub os_thread_id: Option<u64>,
    /// The thread's name in Python.
    #[serde(default)]
    pub thread_name: Option<String>,
    /// Whether it runs, as far as can be seen.
    #[serde(default)]
    pub active: bool,
    /// The frames, the innermost first.
    pub frames: Vec<Frame>,
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The function.
    pub name: String,
    /// The file.
    pub filename: String,
    /// The file with the folders of its package only, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_filename: Option<String>,
    /// The line; 0 if it is not known.
    pub line: i32,
}

/// The stacks of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stacks {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its stacks; empty if they could not be read.
    pub stacks: Vec<Stack>,
    /// Why they could not be read.
    pub refused: Option<String>,
}

impl Frame {
    /// Whether the frame is of Procession itself.
    pub(crate) fn is_ours(&self) -> bool {
        match &self.short_filename {
            Some(short) => short.starts_with("procession/"),
            None => {
                let file = &self.filename;
                file.starts_with("procession/")
                    || file.contains("/procession/") && !file.contains("/procession/tests/")
            }
        }
    }

    /// Whether the frame is of the standard library.
    fn is_of_standard_library(&self) -> bool {
        let installed = ["/site-packages/", "/dist-packages/"];
        self.filename.starts_with("<frozen ")
            || self.filename.contains("/lib/python3.") && !installed.iter().any(|x| self.filename.contains(x))
    }

    /// File, line and function, written as the places where objects were made.
    pub(crate) fn place(&self) -> String {
        format!("{}:{} {}", self.filename, self.line, self.name)
    }
}

impl Stack {
    /// The frames of this process: not those of its parent, which a fork has copied.
    pub(crate) fn own_frames(&self) -> &[Frame] {
        let start = |frame: &Frame| frame.is_ours() && frame.name.rsplit('.').next() == Some(START);
        let end = self.frames.iter().position(start).unwrap_or(self.frames.len());
        &self.frames[..end]
    }

    /// Where in the program the thread is: the innermost frame that is neither Procession's nor the standard library's.
    pub(crate) fn place(&self) -> Option<String> {
        let mut theirs = self.own_frames().iter().filter(|frame| !frame.is_ours());
        let first = theirs.clone().next();
        theirs
            .find(|frame| !frame.is_of_standard_library())
            .or(first)
            .map(Frame::place)
    }

    /// Whether this is the stack of the thread.
    pub(crate) fn is_of(&self, thread: &Thread) -> bool {
        self.os_thread_id == Some(u64::from(thread.own_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, filename: &str, short: Option<&str>) -> Frame {
        Frame {
            name: name.to_owned(),
            filename: filename.to_owned(),
            short_filename: short.map(str::to_owned),
            line: 7,
        }
    }

    #[test]
    fn a_program_in_a_folder_of_our_name_is_not_ours() {
        assert!(frame("get", "/x/procession/queues.py", Some("procession/queues.py")).is_ours());
        assert!(frame("get", "/x/procession/queues.py", None).is_ours());
        assert!(frame("get", "procession/queues.py", None).is_ours());
        assert!(!frame("main", "/a/procession/train.py", Some("train.py")).is_ours());
        assert!(!frame("main", "/a/procession/tests/x.py", None).is_ours());
    }

    #[test]
    fn the_place_of_a_wait_is_in_the_program() {
        let ours = |name: &str| frame(name, "/x/procession/process.py", Some("procession/process.py"));
        let stack = Stack {
            frames: vec![
                ours("Queue.get"),
                frame("enqueue", "/usr/lib/python3.12/logging/handlers.py", None),
                frame("work", "/a/train.py", Some("train.py")),
                ours("BaseProcess._bootstrap"),
                frame("main", "/a/train.py", Some("train.py")),
            ],
            ..Stack::default()
        };
        assert_eq!(stack.own_frames().len(), 3);
        assert_eq!(stack.place().as_deref(), Some("/a/train.py:7 work"));
        let only_library = Stack {
            frames: stack.frames[..2].to_vec(),
            ..Stack::default()
        };
        let place = only_library.place().expect("a frame");
        assert_eq!(place, "/usr/lib/python3.12/logging/handlers.py:7 enqueue");
        assert_eq!(Stack::default().place(), None);
    }

    #[test]
    fn a_function_whose_name_ends_like_ours_is_no_start_of_a_process() {
        let stack = Stack {
            frames: vec![
                frame("my_bootstrap", "/x/procession/a.py", Some("procession/a.py")),
                frame("main", "/a/train.py", Some("train.py")),
            ],
            ..Stack::default()
        };
        assert_eq!(stack.own_frames().len(), 2);
    }
}
