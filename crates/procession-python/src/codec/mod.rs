//! Objects to bytes and back.
//!
//! | file | one idea |
//! |---|---|
//! | [`message`] | an object as a message: which encoding it gets, and what it carries |
//! | [`tree`] | small trees of built-ins, without pickle |
//! | [`instance`] | instances of plain classes in such trees |
//! | [`numbers`] | long lists and tuples of numbers, without pickle |
//! | [`array_module`] | `array.array`, without pickle |
//! | [`pickle`] | everything else |
//! | [`their_reducers`] | reducers that libraries registered with `multiprocessing` |

pub mod array_module;
pub mod instance;
pub mod message;
pub mod numbers;
pub mod pickle;
pub mod their_reducers;
pub mod tree;
