//! The names of functions, for observers: the linker's symbol table in the program's file says them, unless it was stripped.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Symbol tables with more bytes than this are not read.
const LONGEST_TABLE: u64 = 64 << 20;
/// Number of bytes of a symbol's name at which reading ends.
const LONGEST_NAME: usize = 1024;
/// Types of sections, with the full table first: see elf(5).
const TABLES: [u32; 2] = [2, 11];
/// Type of a symbol: a function.
const FUNCTION: u8 = 2;
/// Size of a symbol and of a section header, in 64-bit files.
const SYMBOL: usize = 24;
const SECTION: usize = 64;

/// A section of the file.
#[derive(Clone, Copy)]
struct Section {
    kind: u32,
    offset: u64,
    size: u64,
    /// For a symbol table: the number of the section with its names.
    link: u32,
}

/// Returns the name of the function that begins at this address of an object (a program or library), as its source has it:
/// `program::module::function`. None if the file does not say it, or if the function is a closure.
pub(crate) fn function_at(path: &str, address: u64) -> Option<String> {
    let path = if path.is_empty() { "/proc/self/exe" } else { path };
    let name = mangled_at(&File::open(path).ok()?, address)?;
    let name = format!("{:#}", rustc_demangle::demangle(&name));
    // A closure that has become a function pointer is called through a function of the trait, whose name says nothing of the
    // closure (in the older of the two manglings), or begins with the closure.
    match name
        .strip_prefix('<')
        .and_then(|name| name.split_once(" as core::ops::function::Fn"))
    {
        Some((closure, _)) => Some(closure.to_owned()),
        None => (!name.starts_with("core::ops::function::Fn")).then_some(name),
    }
}

fn mangled_at(file: &File, address: u64) -> Option<String> {
    let head = read(file, 0, 64)?;
    if head.get(..6)? != b"\x7fELF\x02\x01" || usize::from(u16_at(&head, 0x3a)?) != SECTION {
        return None;
    }
    let count = usize::from(u16_at(&head, 0x3c)?);
    let sections = read(file, u64_at(&head, 0x28)?, count * SECTION)?;
    let sections: Vec<Section> = sections.chunks_exact(SECTION).filter_map(section).collect();
    let table = TABLES
        .iter()
        .find_map(|kind| sections.iter().find(|section| section.kind == *kind))?;
    let names = sections.get(table.link as usize)?;
    if table.size > LONGEST_TABLE {
        return None;
    }
    let symbols = read(file, table.offset, table.size as usize)?;
    let symbol = symbols.chunks_exact(SYMBOL).find(|symbol| {
        symbol[4] & 15 == FUNCTION && u64_at(symbol, 8) == Some(address) && symbol[6..8] != [0, 0]
    })?;
    let at = u64::from(u32_at(symbol, 0)?);
    let left = names.size.checked_sub(at)?;
    let name = read(
        file,
        names.offset.checked_add(at)?,
        LONGEST_NAME.min(left as usize),
    )?;
    let name = name.split(|byte| *byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok()
}

fn section(header: &[u8]) -> Option<Section> {
    Some(Section {
        kind: u32_at(header, 4)?,
        offset: u64_at(header, 0x18)?,
        size: u64_at(header, 0x20)?,
        link: u32_at(header, 0x28)?,
    })
}

fn read(file: &File, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_program_names_nothing() {
        assert_eq!(function_at("/etc/passwd", 0), None);
        assert_eq!(function_at("/nowhere", 0), None);
        assert_eq!(function_at("", 1), None);
    }
}
