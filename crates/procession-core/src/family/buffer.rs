//! Buffers and guarded values: blocks of bytes that are written before any other member knows of them.
#![allow(unsafe_code)]

use super::object::{HEADER, Kind};
use super::{Family, Hold};
use crate::error::Result;
use core::sync::atomic::Ordering;

impl Family {
    /// Makes a buffer that holds `bytes`. This member holds it.
    ///
    /// # Errors
    /// Memory.
    pub fn buffer(&'static self, bytes: &[u8]) -> Result<Hold> {
        self.buffer_of([bytes, &[]])
    }

    /// Makes a buffer that holds the bytes of both parts. This member holds it.
    ///
    /// # Errors
    /// Memory.
    pub fn buffer_of(&'static self, parts: [&[u8]; 2]) -> Result<Hold> {
        self.buffer_behind(0, parts)
    }

    /// Makes a buffer that holds the bytes of both parts from `start` on. The caller writes the `start` bytes before, which
    /// have undefined contents, before it names the buffer to any other member.
    ///
    /// # Errors
    /// Memory.
    pub(crate) fn buffer_behind(&'static self, start: u64, parts: [&[u8]; 2]) -> Result<Hold> {
        let second = start + parts[0].len() as u64;
        let hold = self.empty_buffer(second + parts[1].len() as u64)?;
        let contents = hold.offset + HEADER;
        // SAFETY: the buffer was just made with room for both parts, and only this function knows of it.
        unsafe {
            self.copy_in(contents + start, parts[0]);
            self.copy_in(contents + second, parts[1]);
        }
        Ok(hold)
    }

    /// Makes the value that a lock guards. `lock`: the lock's offset and generation. This member holds it.
    pub(crate) fn guarded(&'static self, lock: (u64, u32), value: &[u8]) -> Result<Hold> {
        let hold = self.create(Kind::Guarded, HEADER + value.len() as u64, |_, offset| {
            // SAFETY: the block at `offset` is being made with room for `value`; no handle to it exists yet.
            unsafe { self.copy_in(offset + HEADER, value) };
            Ok(())
        })?;
        // No other member knows of the value yet. Operations on values are not counted, so these two counters are free.
        let header = hold.header();
        header.operations.store(lock.0, Ordering::Relaxed);
        header.waits.store(u64::from(lock.1), Ordering::Relaxed);
        Ok(hold)
    }

    /// Makes the block of a label with this text.
    pub(super) fn labelled(&'static self, text: &[u8]) -> Result<Hold> {
        let hold = self.create(Kind::Label, HEADER + text.len() as u64, |_, offset| {
            // SAFETY: the block at `offset` is being made with room for `text`; no other process knows of it yet.
            unsafe { self.copy_in(offset + HEADER, text) };
            Ok(())
        })?;
        // Nothing names the block yet.
        hold.header()
            .operations
            .store(text.len() as u64, Ordering::Relaxed);
        Ok(hold)
    }

    /// Makes a buffer of `len` bytes with undefined contents: what the last owner of the memory left there. This member holds
    /// it.
    ///
    /// # Errors
    /// Memory.
    pub fn empty_buffer(&'static self, len: u64) -> Result<Hold> {
        self.create(Kind::Buffer, HEADER + len, |_, _| Ok(()))
    }
}
