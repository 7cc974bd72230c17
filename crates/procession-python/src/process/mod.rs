//! Processes, as the facade's start methods use them.
//!
//! | file | one idea |
//! |---|---|
//! | [`child`] | starting processes and holding them; the fork server |
//! | [`environment`] | what a child gets of the environment, while other threads change it |
//! | [`member`] | seats in the registry of processes |
//! | [`fork`] | `os.fork` with a seat for the child; the lifeline of daemonic processes |
//! | [`tracker`] | the listing of the family's tracker |

pub mod child;
mod environment;
pub mod fork;
pub mod member;
pub mod tracker;
